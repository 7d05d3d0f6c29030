"""`lightmem search`: find what matters to a question."""

from __future__ import annotations

import time
from datetime import datetime

import click
from lightmem_client import DropReason, MemoryFilter, RetrieveOptions, RetrieveResult, SelectorMode, Tier
from rich.console import Console

from lightmem_server.cli import output
from lightmem_server.cli.options import MOMENT, ServerOptions, json_option, server_options, user_option

MODES = [mode.name.lower() for mode in SelectorMode if mode]


@click.command()
@click.argument("query")
@user_option
@click.option("--session", "-s", default="", help="The running conversation, which completes a query that needs it.")
@click.option("--limit", "-n", type=click.IntRange(1, 100), help="Most memories.  [default: the server's, 10]")
@click.option("--max-candidates", type=click.IntRange(1, 200), help="Most candidates judged.  [default: 32]")
@click.option("--max-tokens", type=click.IntRange(1, 32_768), help="Most tokens of the context.  [default: 1024]")
@click.option("--deadline-ms", type=click.FloatRange(1, 10_000), help="Time for the answer.  [default: 150]")
@click.option("--mode", type=click.Choice(MODES), help="How much the Selector may do.  [default: full]")
@click.option("--min-relevance", type=click.FloatRange(0, 1), help="Leave out what is judged lower.")
@click.option("--tier", type=click.Choice(["mtm", "ltm"]), help="Search this tier alone.")
@click.option("--from", "occurred_from", type=MOMENT, help="Said at or after this time.")
@click.option("--to", "occurred_to", type=MOMENT, help="Said before this time.")
@click.option("--at", "asked_at", type=MOMENT, help="What 'yesterday' in the query is relative to.  [default: now]")
@click.option("--time-zone", help="IANA name of the user's time zone.  [default: UTC]")
@click.option("--context", "packed", is_flag=True, help="Print the packed context alone, ready for a prompt.")
@click.option("--explain", is_flag=True, help="Show how the answer came about.")
@click.option("--why", "memory_id", metavar="MEMORY_ID", help="Say why this memory is, or is not, among the results.")
@server_options
@json_option
def search(
    query: str,
    user_id: str,
    session: str,
    limit: int | None,
    max_candidates: int | None,
    max_tokens: int | None,
    deadline_ms: float | None,
    mode: str | None,
    min_relevance: float | None,
    tier: str | None,
    occurred_from: datetime | None,
    occurred_to: datetime | None,
    asked_at: datetime | None,
    time_zone: str | None,
    packed: bool,
    explain: bool,
    memory_id: str | None,
    server: ServerOptions,
    as_json: bool,
) -> None:
    """Find the memories that matter to QUERY, best first."""
    given = {
        "max_memories": limit,
        "max_candidates": max_candidates,
        "max_tokens": max_tokens,
        "deadline_seconds": None if deadline_ms is None else deadline_ms / 1e3,
        "selector_mode": None if mode is None else SelectorMode[mode.upper()],
        "min_relevance": min_relevance,
        "asked_at": asked_at,
        "time_zone": time_zone,
    }
    options = RetrieveOptions(**{name: value for name, value in given.items() if value is not None})  # type: ignore[typeddict-item]
    options["filter"] = MemoryFilter(
        tiers=() if tier is None else (Tier[tier.upper()],), occurred_from=occurred_from, occurred_to=occurred_to
    )
    options["include_coarse"] = explain  # the texts of what was dropped
    if memory_id is not None:
        _explain(query, memory_id, user_id, session, options, server, as_json=as_json)
        return
    with server.connect() as client:
        client.is_healthy()  # opens the connection, so that the time below is the retrieval's
        started = time.perf_counter()
        answer = client.retrieve(query, user_id=user_id, session_id=session, **options)
        elapsed_seconds = time.perf_counter() - started
    if as_json:
        output.print_json(answer)
    elif packed:
        click.echo(output.plain(answer.packed_context).plain)
    else:
        console = output.console()
        _print_memories(console, answer, elapsed_seconds)
        if explain:
            _print_trace(console, answer)


def _explain(
    query: str,
    memory_id: str,
    user_id: str,
    session: str,
    options: RetrieveOptions,
    server: ServerOptions,
    *,
    as_json: bool,
) -> None:
    with server.connect() as client:
        explanation = client.explain(query, memory_id, user_id=user_id, session_id=session, **options)
    if as_json:
        output.print_json(explanation)
        return
    console = output.console()
    console.print(output.plain(explanation.text))
    margin = f", by {explanation.margin:.3f}" if explanation.margin else ""
    outcome = (
        "returned" if explanation.reached_stage == "returned" else f"lost after {explanation.reached_stage}{margin}"
    )
    console.print(f"{memory_id}: {outcome}", style="dim", soft_wrap=True)


def _print_memories(console: Console, answer: RetrieveResult, elapsed_seconds: float) -> None:
    if answer.memories:
        table = output.table(
            "#", "tier", "date", "speaker", "score", "relevance", "text", numbers=("#", "score", "relevance")
        )
        for rank, hit in enumerate(answer.memories, start=1):
            table.add_row(
                str(rank),
                hit.memory.tier.name,
                output.day(hit.memory.occurred_at),
                output.plain(hit.memory.speaker),
                f"{hit.score:.4f}",
                "" if hit.relevance is None else f"{hit.relevance:.3f}",
                output.plain(hit.memory.text),
            )
        console.print(table)
    else:
        console.print("nothing found")
    for hit in answer.shared_memories:
        console.print(output.plain(f"{hit.memory.text} (at least {hit.shared_by_at_least})"), soft_wrap=True)
    trace = answer.trace
    assert trace is not None, "it was asked for"
    notes = "; cut by the deadline" * trace.is_cut_by_deadline + "; approximate" * trace.is_approximate
    console.print(
        f"{len(answer.memories)} of {trace.matched_count} memories, {answer.token_count} tokens, "
        f"{elapsed_seconds * 1e3:.1f} ms, {trace.elapsed_seconds * 1e3:.1f} of them the server's{notes}",
        style="dim",
    )


def _print_trace(console: Console, answer: RetrieveResult) -> None:
    trace = answer.trace
    assert trace is not None, "it was asked for"
    plan = trace.plan
    console.print("\nPlan", style="bold")
    for number, view in enumerate(plan.query_views, start=1):
        console.print(f"  view {number}: ", output.plain(view), sep="", soft_wrap=True)
    if plan.window_from is not None or plan.window_to is not None:
        window = f"{output.minute(plan.window_from)} to {output.minute(plan.window_to)}"
        console.print("  time: ", window, ', from "', output.plain(plan.window_text), '"', sep="", soft_wrap=True)
    budget, deadline = plan.budget, plan.budget.deadline_seconds
    console.print(
        f"  budget: {budget.max_memories} memories, {budget.max_candidates} candidates, {budget.max_tokens} tokens, "
        f"{'' if deadline is None else f'{deadline * 1e3:.0f} ms, '}Selector {plan.selector_mode.name.lower()}"
    )
    flags = {
        "about somebody": plan.is_personal,
        "a list": plan.is_list,
        "joins several": plan.is_multi_hop,
        "asks broadly": plan.is_broad,
        "asks when": plan.asks_when,
        "searched in that time alone": plan.is_window_filter,
    }
    needs = [plan.need.name.lower(), *(flag for flag, is_set in flags.items() if is_set)]
    console.print(f"  need: {', '.join(needs)}")
    if trace.followed_memory_ids:
        console.print(f"  second pass: words of {' and '.join(trace.followed_memory_ids)}", soft_wrap=True)
    console.print(f"  Selector stopped: {trace.selector_stop.name.lower()}")
    stages = output.table("stage", "ms", "items", numbers=("ms", "items"), title="\nStages")
    for stage in trace.stages:
        stages.add_row(stage.name, output.milliseconds(stage.elapsed_seconds), str(stage.item_count))
    console.print(stages)
    texts = {hit.memory.id: hit.memory.text for hit in (*answer.coarse, *answer.memories)}
    candidates = output.table(
        "final",
        "coarse",
        "logit",
        "score",
        "relevance",
        "outcome",
        "text",
        "found by",
        "made of",
        numbers=("final", "coarse", "logit", "score", "relevance"),
        title="\nCandidates",
    )
    for item in trace.candidates:
        is_returned = item.drop_reason is DropReason.UNSPECIFIED
        candidates.add_row(
            str(item.final_rank),
            str(item.coarse_rank),
            "" if item.logit is None else f"{item.logit:.2f}",
            f"{item.final_score:.4f}",
            "" if item.relevance is None else f"{item.relevance:.3f}",
            "returned" if is_returned else item.drop_reason.name.lower(),
            output.line(texts.get(item.memory_id, item.memory_id)),
            " ".join(f"{source}:{rank}" for source, rank in item.source_ranks.items()),
            " ".join(f"{name}:{value:.2f}" for name, value in item.score_parts.items()),
        )
    console.print(candidates)
