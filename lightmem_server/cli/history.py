"""`lightmem history`: how a memory came to be what it is."""

from __future__ import annotations

import click
from lightmem_client import Memory

from lightmem_server.cli import output
from lightmem_server.cli.options import ServerOptions, json_option, server_options, user_option


@click.command()
@click.argument("memory_id", metavar="ID")
@user_option
@server_options
@json_option
def history(memory_id: str, user_id: str, server: ServerOptions, as_json: bool) -> None:
    """Show every version of the memory ID, oldest first, and what made it so."""
    with server.connect() as client:
        versions = client.history(memory_id, user_id=user_id)
    if as_json:
        output.print_json(versions)
        return
    table = output.table("version", "since", "cause", "why", "state", "valid", "text", numbers=("version",))
    for version in versions:
        table.add_row(
            str(version.memory.version),
            output.minute(version.changed_at),
            output.plain(version.cause),
            output.plain(version.explanation),
            version.memory.state.name.lower(),
            _validity(version.memory),
            output.plain(version.memory.text),
        )
    output.console().print(table)


def _validity(memory: Memory) -> str:
    if memory.valid_from is None and memory.valid_to is None:
        return ""
    return f"{output.day(memory.valid_from)}..{output.day(memory.valid_to)}"
