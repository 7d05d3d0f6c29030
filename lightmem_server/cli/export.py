"""`lightmem export`: everything of a user, to a file."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightmem_server.cli import output
from lightmem_server.cli.options import CommandError, ExitCode, ServerOptions, json_option, server_options


@click.command()
@click.argument("user")
@click.option(
    "--output",
    "-o",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file, which only you can read; it is there when it is whole. Default: standard output.",
)
@server_options
@json_option
def export(user: str, path: Path | None, server: ServerOptions, as_json: bool) -> None:
    """Write everything of USER, as of one moment, as lines of JSON. Needs an admin key.

    `lightmem import` takes it in, here or elsewhere. It has what USER said: keep it as you would keep that.
    """
    if as_json and path is None:
        raise click.UsageError("--json tells of a file: give --output")
    count = 0
    with server.connect() as client, _target(path) as file, progress("lines") as bar:
        task = bar.add_task("exported", total=None)
        for part in client.export_user(user):
            file.write("".join(f"{line}\n" for line in part.lines).encode())
            count = part.done_count
            bar.update(task, completed=part.done_count, total=part.total_count)
    if as_json:
        output.print_json({"lines": count, "path": str(path)})
    elif path is not None:
        click.echo(f"{count:,} lines in {path}")


def progress(unit: str) -> Progress:
    """A bar on stderr, where that is a terminal."""
    columns = (TextColumn(f"{{task.description}} {unit}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


@contextlib.contextmanager
def _target(path: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that takes its name once all is in it and on disk."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", ExitCode.FAILED) from error
