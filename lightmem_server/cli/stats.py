"""`lightmem stats`: figures of the server, or of one user."""

from __future__ import annotations

from datetime import timedelta

import click

from lightmem_server.cli import output
from lightmem_server.cli.options import ServerOptions, json_option, server_options


@click.command()
@click.option("--user", "-u", "user_id", help="This user's figures alone.")
@server_options
@json_option
def stats(user_id: str | None, server: ServerOptions, as_json: bool) -> None:
    """Figures of the server, or of one user. Needs an admin key."""
    with server.connect() as client:
        figures = client.stats(user_id=user_id)
    if as_json:
        output.print_json(figures)
        return
    console = output.console()
    counts = output.table("tier", "kind", "active", "archived", numbers=("active", "archived"))
    for count in figures.counts:
        counts.add_row(count.tier.name, count.kind.name.lower(), f"{count.active_count:,}", f"{count.archived_count:,}")
    console.print(counts if figures.counts else "no memories")
    facts = output.table("", "")
    facts.show_header = False
    facts.add_row("users", f"{figures.user_count:,}")
    if figures.shared_fact_count:
        facts.add_row("shared facts", f"{figures.shared_fact_count:,}")
    facts.add_row("database", output.size(figures.store_size_bytes))
    facts.add_row(
        "in memory",
        f"{figures.resident_partition_count:,} users, {output.size(figures.resident_size_bytes)} "
        f"of {output.size(figures.resident_limit_bytes)}",
    )
    for model in figures.models:
        facts.add_row(model.role, model.name)
    facts.add_row("waiting jobs", f"{figures.pending_job_count:,}")
    if figures.dead_job_count:
        facts.add_row("jobs set aside", f"{figures.dead_job_count:,}; `lightmem consolidate USER` tries one again")
        for job in figures.dead_jobs:
            facts.add_row("", output.plain(f"{job.user_id}: {job.kind} failed {job.attempt_count} times: {job.error}"))
    facts.add_row("server", f"{figures.server_version}, up {timedelta(seconds=round(figures.uptime_seconds))}")
    console.print(facts)
