"""`lightmem import`: take in a file that `lightmem export` wrote."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import IO

import click
import lightmem_client
from rich.progress import Progress, TaskID

from lightmem_server.cli import output
from lightmem_server.cli.export import progress
from lightmem_server.cli.options import CommandError, ExitCode, ServerOptions, json_option, server_options


@click.command("import")
@click.argument("user")
@click.argument("file", type=click.File("rb"))
@server_options
@json_option
def import_(user: str, file: IO[bytes], server: ServerOptions, as_json: bool) -> None:
    """Take FILE, or standard input with -, in as memories of USER. Needs an admin key.

    What is there already stays as it is: after a failure, or a Ctrl-C, call it again. A memory that is there with other content
    ends it.
    """
    with server.connect() as client, progress("bytes") as bar:
        source = _Source(file, bar)
        try:
            result = client.import_user(user, source.lines())
        except lightmem_client.LightMemError:
            if source.bad_line:  # what the client saw is the end of the lines
                raise CommandError(f"line {source.bad_line}: is not UTF-8", ExitCode.USAGE) from None
            raise
    if as_json:
        output.print_json(result)
        return
    new = f"; {result.reembedded_count:,} got vectors of this server's embedder" if result.reembedded_count else ""
    click.echo(f"{result.imported_count:,} memories imported, {result.skipped_count:,} were there{new}")


class _Source:
    """The lines of a file as they are sent, with a bar of its bytes."""

    def __init__(self, file: IO[bytes], bar: Progress) -> None:
        self.bad_line = 0
        self._file = file
        self._bar = bar
        self._task: TaskID = bar.add_task("imported", total=_size(file))

    def lines(self) -> Iterator[str]:
        """Ends at a line that is no text; `bad_line` is its number then."""
        for number, line in enumerate(self._file, start=1):
            try:
                yield line.decode()
            except UnicodeDecodeError:
                self.bad_line = number
                return
            self._bar.advance(self._task, len(line))


def _size(file: IO[bytes]) -> int | None:
    """None: it is a pipe, or has no descriptor."""
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
