"""`lightmem keys`: make, list, rotate and revoke API keys."""

from __future__ import annotations

from datetime import datetime

import click
from lightmem_client import ApiKey, CreatedKey

from lightmem_server.cli import output
from lightmem_server.cli.options import MOMENT, ServerOptions, json_option, server_options


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys. Needs an admin key."""


@keys.command()
@click.option("--label", default="", help="For the people who keep it.")
@click.option("--user", "-u", "user_ids", multiple=True, help="May act for this user; may be repeated. None: for all.")
@click.option("--admin", is_flag=True, help="May administer.")
@click.option("--expires", type=MOMENT, help="When it stops working.  [default: never]")
@click.option("--namespace", default="", help="Whose memories it opens; the server's operator alone.  [default: yours]")
@server_options
@json_option
def create(
    label: str,
    user_ids: tuple[str, ...],
    admin: bool,
    expires: datetime | None,
    namespace: str,
    server: ServerOptions,
    as_json: bool,
) -> None:
    """Make a key and print its secret, which is shown this once."""
    with server.connect() as client:
        created = client.create_key(
            label=label, user_ids=user_ids, is_admin=admin, expires_at=expires, namespace=namespace
        )
    _print_created(created, as_json)


@keys.command("list")
@click.option("--namespace", default="", help="Whose; the server's operator alone.  [default: yours]")
@server_options
@json_option
def list_(namespace: str, server: ServerOptions, as_json: bool) -> None:
    """Show the keys, without their secrets."""
    with server.connect() as client:
        found = list(client.list_keys(namespace=namespace))
    if as_json:
        output.print_json(found)
        return
    table = output.table("id", "rights", "users", "made", "state", "label")
    for key in found:
        table.add_row(
            key.key_id,
            "admin" if key.is_admin else "agent",
            output.plain(", ".join(key.user_ids) or "all"),
            output.minute(key.created_at),
            _state(key),
            output.plain(key.label),
        )
    output.console().print(table if found else "no keys")


@keys.command()
@click.argument("key_id")
@click.option("--overlap", type=click.FloatRange(0, 30 * 24), default=0, help="Hours that the old key goes on working.")
@server_options
@json_option
def rotate(key_id: str, overlap: float, server: ServerOptions, as_json: bool) -> None:
    """Put a new key in a key's place, and print its secret.

    The old key stops at once, or after --overlap hours.
    """
    with server.connect() as client:
        created = client.rotate_key(key_id, overlap_seconds=overlap * 3600)
    _print_created(created, as_json)


@keys.command()
@click.argument("key_id")
@server_options
@json_option
def revoke(key_id: str, server: ServerOptions, as_json: bool) -> None:
    """Make a key useless at once."""
    with server.connect() as client:
        revoked = client.revoke_key(key_id)
    if as_json:
        output.print_json(revoked)
    else:
        click.echo(f"key {revoked.key_id} is revoked")


def _print_created(created: CreatedKey, as_json: bool) -> None:
    if as_json:
        output.print_json(created)
    else:
        click.echo(created.secret)
        click.echo(f"key {created.key.key_id}; keep the line above, it is not stored", err=True)


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {output.minute(key.revoked_at)}"
    return "good" if key.expires_at is None else f"until {output.minute(key.expires_at)}"
