"""`lightmem list`: show a user's memories."""

from __future__ import annotations

import itertools

import click
from lightmem_client import MemoryFilter

from lightmem_server.cli import output
from lightmem_server.cli.options import ServerOptions, json_option, server_options, user_option

PAGE_SIZE = 200


@click.command("list")
@user_option
@click.option("--session", "-s", "sessions", multiple=True, help="Of this conversation alone; may be repeated.")
@click.option("--limit", "-n", type=click.IntRange(0), default=50, show_default=True, help="Most memories; 0 for all.")
@click.option("--archived", is_flag=True, help="Archived ones too.")
@server_options
@json_option
def list_(
    user_id: str, sessions: tuple[str, ...], limit: int, archived: bool, server: ServerOptions, as_json: bool
) -> None:
    """Show a user's memories, newest first. With --json, one object a line."""
    memory_filter = MemoryFilter(session_ids=sessions, include_archived=archived)
    page_size = min(limit, PAGE_SIZE) or PAGE_SIZE
    with server.connect() as client:
        memories = itertools.islice(
            client.list(user_id=user_id, filter=memory_filter, page_size=page_size), limit or None
        )
        if as_json:
            for memory in memories:
                output.print_json(memory, is_line=True)
            return
        table = output.table("id", "tier", "kind", "said", "session", "speaker", "text")
        for memory in memories:
            table.add_row(
                memory.id,
                memory.tier.name,
                memory.kind.name.lower(),
                output.minute(memory.occurred_at),
                output.plain(memory.session_id),
                output.plain(memory.speaker),
                output.plain(memory.text),
            )
    output.console().print(table if table.row_count else "no memories")
