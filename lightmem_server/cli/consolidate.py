"""`lightmem consolidate`: abstract a user's turns now, cancel that, or undo a run."""

from __future__ import annotations

import sys

import click
from lightmem_client import Client, ConsolidationProgress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lightmem_server.cli import output
from lightmem_server.cli.options import ServerOptions, json_option, server_options


@click.command()
@click.argument("user", required=False)
@click.option("--undo", "run_id", metavar="RUN", help="Take back what this run changed, instead.")
@click.option("--cancel", is_flag=True, help="End the user's run, and drop what waits, instead.")
@server_options
@json_option
def consolidate(user: str | None, run_id: str | None, cancel: bool, server: ServerOptions, as_json: bool) -> None:
    """Turn USER's new turns into summaries and facts now. Needs an admin key.

    Where a run of theirs is at work, it is followed. Ctrl-C stops the following, not the run. With --json, one object a line
    as the run goes on.
    """
    if run_id is not None and cancel:
        raise click.UsageError("give --undo or --cancel, not both")
    if user is None and run_id is None:
        raise click.UsageError("give USER, or a run with --undo")
    with server.connect() as client:
        if run_id is not None:
            _undo(client, run_id, as_json)
        elif cancel:
            _cancel(client, str(user), as_json)
        elif as_json:
            for moment in client.consolidate(user_id=user):
                output.print_json(moment, is_line=True)
        else:
            _follow(client, str(user))


def _undo(client: Client, run_id: str, as_json: bool) -> None:
    undone = client.undo_consolidation(run_id)
    if as_json:
        output.print_json(undone)
    else:
        click.echo(f"{undone.restored_count} memories put back, {undone.removed_count} removed")


def _cancel(client: Client, user: str, as_json: bool) -> None:
    cancelled = client.cancel_consolidation(user_id=user)
    if as_json:
        output.print_json(cancelled)
    elif cancelled.run_id:
        click.echo(f"run {cancelled.run_id} is cancelled; undo what it stored with --undo")
    else:
        click.echo("the waiting job is dropped" if cancelled.job_count else "nothing was at work or waiting")


def _follow(client: Client, user: str) -> None:
    last: ConsolidationProgress | None = None
    with _progress() as bar:
        task = bar.add_task("queue", total=None)
        for moment in client.consolidate(user_id=user):
            last = moment
            bar.update(
                task,
                description=_describe(moment),
                completed=moment.done_count,
                total=moment.total_count or None,
            )
    if last is None or not last.run_id:
        click.echo("nothing new")
        return
    click.echo(f"run {last.run_id}: {last.kept_count} kept, {sum(last.rejected.values())} rejected")
    if last.rejected:
        table = output.table("rejected", "why", numbers=("rejected",))
        for reason, count in sorted(last.rejected.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(f"{count:,}", output.plain(reason))
        output.console().print(table)


def _describe(moment: ConsolidationProgress) -> str:
    text = f"{moment.stage}: {moment.kept_count} kept, {sum(moment.rejected.values())} rejected"
    return text if moment.remaining_seconds is None else f"{text}, {moment.remaining_seconds:.0f} s left"


def _progress() -> Progress:
    """A bar on stderr, where that is a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
