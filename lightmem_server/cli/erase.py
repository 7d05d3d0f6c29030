"""`lightmem erase`: forget a user for good."""

from __future__ import annotations

import sys

import click

from lightmem_server.cli import output
from lightmem_server.cli.options import ServerOptions, json_option, server_options

TIMEOUT_SECONDS = 600.0
"""A whole database is gone through, and readers are waited for."""


@click.command()
@click.argument("user")
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Don't ask.")
@server_options
@json_option
def erase(user: str, is_sure: bool, server: ServerOptions, as_json: bool) -> None:
    """Remove everything of USER, down to the bytes on disk. It cannot be undone. Needs an admin key.

    What comes back is the receipt. Files made before, backups and exports, are yours to delete; keys bound to the user stay
    (`lightmem keys revoke`).
    """
    if not is_sure:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is there to ask: give --yes")
        click.confirm(f"Remove everything of {user!r} for good?", abort=True, err=True)
    with server.connect() as client:
        receipt = client.erase_user(user, timeout_seconds=TIMEOUT_SECONDS)
    if as_json:
        output.print_json(receipt)
        return
    counts = [
        f"{receipt.memory_count:,} memories",
        f"{receipt.vector_count:,} vectors",
        f"{receipt.job_count:,} jobs",
    ]
    if receipt.withdrawn_support_count:
        counts.append(f"support of {receipt.withdrawn_support_count:,} shared facts")
    click.echo(f"erased {', '.join(counts)}; receipt {receipt.receipt_id}")
