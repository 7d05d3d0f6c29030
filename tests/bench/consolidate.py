"""Consolidates a dialogue set, and says what it took and what it is worth.

    python -m tests.bench.consolidate                          all of LoCoMo with the Writer `standard`: hours
    python -m tests.bench.consolidate --sessions 2             two sessions of each dialogue, drawn by --seed
    python -m tests.bench.consolidate --writer lite            by rules: minutes
    python -m tests.bench.consolidate --show                   no more consolidating: what is there so far

Unattended and resumable: everything is in --folder, and the next call goes on there. Printed are time, tokens and rejects by
reason; the share of the data's own observations that five results hold; and the evidence that 512 tokens hold, with and
without what was abstracted, over questions whose evidence is in the sessions that were consolidated.

Writes target/bench/consolidate.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench import report
from tests.bench.consolidate_figures import AROUND, EVIDENCE_BUDGET, abstraction, coverage, evidence, print_figures
from tests.bench.consolidated import WRITERS, Consolidated, consolidated
from tests.bench.datasets import Conversation, digest, take_quick
from tests.bench.observations import read_observations
from tests.bench.options import ROOT, make_parser, open_bars, parse_options, read_conversations

RESULT_FILE = ROOT / "target" / "bench" / "consolidate.json"
QUICK_QUESTIONS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    options = _parse(arguments)
    conversations = read_conversations(options)
    if isinstance(conversations, int):
        return conversations
    if options.quick:
        conversations = take_quick(conversations, QUICK_QUESTIONS)
        options.sessions = 1
    return asyncio.run(_run(options, conversations))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--writer", choices=list(WRITERS), default="standard", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of the Writer, each with texts of its own; default: 1")
    parser.add_argument("--sessions", type=int, default=0, help="of each dialogue that are consolidated; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sessions; default: 0")
    parser.add_argument("--folder", type=Path, help="default: target/bench/consolidate/WRITER-SESSIONS-SEED")
    parser.add_argument("--show", action="store_true", help="consolidate nothing more")
    parser.add_argument(
        "--around", action="store_true", help="evidence as the mean over nine budgets around 512 tokens"
    )
    parser.add_argument("--without", nargs="+", default=[], metavar="ID", help="dialogues that the figures leave out")
    return parse_options(parser, arguments)


def folder_of(options: argparse.Namespace) -> Path:
    """Where a run with these options is kept."""
    name = f"{options.writer}-{options.sessions or 'all'}-{options.seed}{'-quick' if options.quick else ''}"
    return options.folder or ROOT / "target" / "bench" / "consolidate" / name


async def _run(options: argparse.Namespace, conversations: Sequence[Conversation]) -> int:
    with open_bars() as bars:
        async with consolidated(
            conversations,
            folder_of(options),
            bars,
            writer=options.writer,
            threads=options.threads,
            sessions=options.sessions,
            seed=options.seed,
            is_complete=not options.show,
        ) as made:
            figures = await _measure(options, conversations, made)
    result: dict[str, Any] = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {
            "data": {"name": options.data.name, "digest": digest(options.data)},
            "writer": options.writer,
            "sessions": options.sessions,
            "seed": options.seed,
            "without": options.without,
        },
        "figures": figures,
        "targets": {},
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print_figures(Console(width=None if sys.stdout.isatty() else 120), figures)
    return 0


async def _measure(
    options: argparse.Namespace, conversations: Sequence[Conversation], made: Consolidated
) -> dict[str, Any]:
    wanted = [one for one in conversations if one.conversation_id not in options.without]
    done = [one for one in wanted if await made.is_done(one.conversation_id)]
    figures: dict[str, Any] = {"abstraction": await abstraction(done, made)}
    if done:
        observations = read_observations(options.data) if options.layout == "locomo" else {}
        budgets = AROUND if options.around else (EVIDENCE_BUDGET.max_tokens,)
        figures["evidence"] = await evidence(done, made, sessions=options.sessions, seed=options.seed, budgets=budgets)
        figures["coverage"] = await coverage(done, made, observations, sessions=options.sessions, seed=options.seed)
    return figures


if __name__ == "__main__":
    sys.exit(main())
