"""`lightmem backup`: copy the whole store on the server's machine."""

from __future__ import annotations

import sys

import click
from lightmem_client import BackupProgress
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lightmem_server.cli import output
from lightmem_server.cli.options import ServerOptions, json_option, server_options

PAGE_BYTES = 4096


@click.command()
@click.argument("name", required=False, default="")
@server_options
@json_option
def backup(name: str, server: ServerOptions, as_json: bool) -> None:
    """Write a verified copy of everything to the folder `backups` of the server's data, while it goes on.

    NAME is the file's; without one it is the time. Needs an admin key. Ctrl-C ends it and leaves no file. With --json, one
    object a line as it goes on. Keep `admin.key` as well: of keys the copy holds only hashes.
    """
    last: BackupProgress | None = None
    with server.connect() as client, progress_bar() as bar:
        task = bar.add_task("copy", total=None)
        for moment in client.backup(name):
            last = moment
            if as_json:
                output.print_json(moment, is_line=True)
            else:
                show(bar, task, moment.stage, moment.done_pages, moment.total_pages)
    if last is not None and not as_json:
        click.echo(f"{last.path}: {output.size(last.size_bytes)}, verified")


def progress_bar() -> Progress:
    """A bar on stderr, where that is a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def show(bar: Progress, task: TaskID, stage: str, done_pages: int, total_pages: int) -> None:
    """Bring the bar up to a moment."""
    bar.update(
        task,
        description=stage,
        completed=done_pages * PAGE_BYTES,
        total=total_pages * PAGE_BYTES or None,
    )
