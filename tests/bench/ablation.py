"""What each part of retrieval is worth: the pipeline in this process, on real models that remember, one part off at a time.

    python -m tests.bench.ablation --data locomo10.json              each part off, with what is lost
    python -m tests.bench.ablation --data locomo10.json --choose     constants chosen on nine dialogues, judged on the tenth
    python -m tests.bench.ablation --layout jsonl DIR                any set in that layout, see tests/bench/datasets.py

What the models make of a text is kept in target/bench/remembered.sqlite, so that only the first run takes minutes. There is
no deadline here and nothing is timed: `make bench-quality` and `make bench-latency` go through a server.

A constant that was fitted to the questions it is judged on says little. `--choose` takes, for each dialogue, the setting
that is best on all others (by R@10 + MRR) and reports what it reaches on the one left out: the figure to expect elsewhere.

Writes target/bench/ablation.json.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lightmem_server.config import load
from lightmem_server.pipeline.retrieval import SelectorMode
from lightmem_server.pipeline.tuning import JudgedLimits, Tuning, tuning_for
from tests.bench import report
from tests.bench.datasets import Conversation, take_quick
from tests.bench.in_process import MEMORY_FILE, Bench, told
from tests.bench.memo import Memory
from tests.bench.options import ROOT, make_parser, open_bars, parse_options, read_conversations

RESULT_FILE = ROOT / "target" / "bench" / "ablation.json"
QUICK_QUESTIONS = 8

DEFAULT = tuning_for(load().selector)
VARIANTS: Mapping[str, tuple[Tuning, SelectorMode]] = {
    "all parts, FAST": (DEFAULT, SelectorMode.FAST),
    "all parts, FULL": (DEFAULT, SelectorMode.FULL),
    "the Selector reads two": (replace(DEFAULT, fast=JudgedLimits(512, 2, 2)), SelectorMode.FAST),
    "the Selector reads four": (replace(DEFAULT, fast=JudgedLimits(512, 4, 4)), SelectorMode.FAST),
    "without the Selector (OFF)": (DEFAULT, SelectorMode.OFF),
    "without the question view": (
        replace(DEFAULT, dense_weights=(0.0, 1.0), lexical_weights=(0.0, 1.0)),
        SelectorMode.FAST,
    ),
    "without the window view": (
        replace(DEFAULT, dense_weights=(1.0, 0.0), lexical_weights=(1.0, 0.0)),
        SelectorMode.FAST,
    ),
    "without vectors": (replace(DEFAULT, dense_weights=(0.0, 0.0)), SelectorMode.FAST),
    "without words (BM25)": (replace(DEFAULT, lexical_weights=(0.0, 0.0)), SelectorMode.FAST),
    "without the session's words": (replace(DEFAULT, session_weight=0.0), SelectorMode.FAST),
    "without named speakers": (replace(DEFAULT, speaker_boost=0.0), SelectorMode.FAST),
    "without time windows": (replace(DEFAULT, time_boost=0.0), SelectorMode.FAST),
    "without preferring times for when": (replace(DEFAULT, time_expression_boost=0.0), SelectorMode.FAST),
    "without informativeness": (replace(DEFAULT, prior_weight=0.0), SelectorMode.FAST),
    "without the second pass": (replace(DEFAULT, follow_up_hits=0), SelectorMode.FAST),
    "judged ones keep the question view": (replace(DEFAULT, judged_question_weight=1.0), SelectorMode.FAST),
    "without links": (replace(DEFAULT, link_weight=0.0), SelectorMode.FAST),
    "without leaving out near-duplicates": (replace(DEFAULT, duplicate_similarity=0.0), SelectorMode.FAST),
    "without diversity of lists": (replace(DEFAULT, repetition_cost=0.0), SelectorMode.FAST),
}
"""Name to constants and mode; the first is what the others are compared with."""

WARMED = "with the heat of the questions before"
"""All parts, and what is returned gains heat, as on a server; in the other rows no memory was ever returned before."""

CHOSEN: Mapping[str, Sequence[float]] = {
    "logit_weight": (0.1, 0.2, 0.3),
    "session_weight": (0.5, 1.0),
    "prior_weight": (0.25, 0.5),
    "time_expression_boost": (0.25, 0.5, 0.75),
}
CHOICES: Sequence[Tuning] = [
    replace(DEFAULT, **dict(zip(CHOSEN, values, strict=True))) for values in itertools.product(*CHOSEN.values())
]


@dataclass(frozen=True, slots=True)
class Figures:
    """Averages over some questions."""

    recall_at_10: float
    mrr: float
    questions: int


async def measure(
    bench: Bench, tuning: Tuning, mode: SelectorMode, bars: Progress, name: str, *, is_noting_access: bool = False
) -> dict[str, list[list[float]]]:
    """Per conversation each question's [R@10, reciprocal rank]."""
    outcomes: dict[str, list[list[float]]] = defaultdict(list)
    async for answer in bench.ask(tuning, mode, bars, name, is_noting_access=is_noting_access):
        evidence = answer.question.evidence
        outcomes[answer.conversation_id].append(
            [report.recall(answer.ranking, evidence, 10), report.reciprocal_rank(answer.ranking, evidence)]
        )
    return dict(outcomes)


def average(outcomes: Mapping[str, Sequence[Sequence[float]]]) -> Figures:
    """Over all questions of some conversations.

    >>> average({"a": [[1.0, 0.5]], "b": [[0.0, 0.0], [0.5, 1.0]]})
    Figures(recall_at_10=0.5, mrr=0.5, questions=3)
    """
    pairs = [pair for of_one in outcomes.values() for pair in of_one]
    count = max(1, len(pairs))
    return Figures(
        math.fsum(pair[0] for pair in pairs) / count, math.fsum(pair[1] for pair in pairs) / count, len(pairs)
    )


def choose(outcomes: Sequence[Mapping[str, Sequence[Sequence[float]]]]) -> dict[str, int]:
    """For each conversation the number of the setting that is best on all the others.

    >>> choose([{"a": [[1.0, 1.0]], "b": [[0.0, 0.0]]}, {"a": [[0.0, 0.0]], "b": [[0.9, 0.9]]}])
    {'a': 1, 'b': 0}
    """
    chosen = {}
    for left_out in outcomes[0]:
        others = [{name: of_one for name, of_one in made.items() if name != left_out} for made in outcomes]
        scores = [average(other).recall_at_10 + average(other).mrr for other in others]
        chosen[left_out] = scores.index(max(scores))
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--choose", action="store_true", help="choose constants by leaving one dialogue out")
    options = parse_options(parser, arguments)
    conversations = read_conversations(options)
    if isinstance(conversations, int):
        return conversations
    if options.quick:
        conversations = take_quick(conversations, QUICK_QUESTIONS)
    memory = Memory(MEMORY_FILE)
    try:
        with open_bars() as bars:
            figures = asyncio.run(_run(conversations, memory, bars, is_choosing=options.choose))
    finally:
        memory.close()
    result = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {"data": options.data.name, "layout": options.layout, "choose": options.choose},
        "figures": figures,
        "targets": {},
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    _print(figures)
    return 0


async def _run(
    conversations: Sequence[Conversation], memory: Memory, bars: Progress, *, is_choosing: bool
) -> dict[str, Any]:
    async with told(conversations, memory, bars) as bench:
        if is_choosing:
            made = [
                await measure(bench, tuning, SelectorMode.FAST, bars, f"setting {i + 1} of {len(CHOICES)}")
                for i, tuning in enumerate(CHOICES)
            ]
            chosen = choose(made)
            left_out = {name: made[number][name] for name, number in chosen.items()}
            averages = [average(outcomes) for outcomes in made]
            ordered = sorted(averages, key=lambda figures: figures.recall_at_10 + figures.mrr)
            default = average(await measure(bench, DEFAULT, SelectorMode.FAST, bars, "defaults"))
            counts = Counter(_settings(CHOICES[number]) for number in chosen.values())
            return {
                "chosen on the others": _row(average(left_out), left_out) | {"chosen": dict(counts)},
                "defaults": {"recall_at_10": default.recall_at_10, "mrr": default.mrr},
                "best of all settings": {"recall_at_10": ordered[-1].recall_at_10, "mrr": ordered[-1].mrr},
                "worst of all settings": {"recall_at_10": ordered[0].recall_at_10, "mrr": ordered[0].mrr},
            }
        rows: dict[str, Any] = {}
        whole: dict[str, list[list[float]]] | None = None
        for name, (tuning, mode) in VARIANTS.items():
            outcomes = await measure(bench, tuning, mode, bars, name)
            whole = whole or outcomes
            rows[name] = _row(average(outcomes), outcomes, against=whole)
        # Last, for it leaves the memories warm.
        warmed = await measure(bench, DEFAULT, SelectorMode.FAST, bars, WARMED, is_noting_access=True)
        rows[WARMED] = _row(average(warmed), warmed, against=whole)
        return rows


def _settings(tuning: Tuning) -> str:
    """What a setting of CHOICES sets."""
    return ", ".join(f"{name} {getattr(tuning, name)}" for name in CHOSEN)


def _row(
    figures: Figures,
    outcomes: Mapping[str, Sequence[Sequence[float]]],
    *,
    against: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> dict[str, Any]:
    """A variant's averages, and how its conversations scatter: each one's figure, or its difference to `against`."""
    scatter = []
    for name, of_one in outcomes.items():
        own = average({name: of_one})
        base = Figures(0.0, 0.0, 0) if against is None else average({name: against[name]})
        scatter.append((own.recall_at_10 - base.recall_at_10, own.mrr - base.mrr))
    total = None if against is None else average(against)
    return {
        "recall_at_10": figures.recall_at_10,
        "mrr": figures.mrr,
        "questions": figures.questions,
        "recall_at_10_change": None if total is None else figures.recall_at_10 - total.recall_at_10,
        "mrr_change": None if total is None else figures.mrr - total.mrr,
        "recall_at_10_range": [min(pair[0] for pair in scatter), max(pair[0] for pair in scatter)],
        "mrr_range": [min(pair[1] for pair in scatter), max(pair[1] for pair in scatter)],
    }


def _print(figures: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("R@10", "MRR", "R@10 change", "MRR change", "R@10 by dialogue", "MRR by dialogue"):
        table.add_column(heading, justify="right")
    for name, row in figures.items():
        changes = [row.get("recall_at_10_change"), row.get("mrr_change")]
        ranges = [row.get("recall_at_10_range"), row.get("mrr_range")]
        table.add_row(
            name,
            f"{row['recall_at_10']:.4f}",
            f"{row['mrr']:.4f}",
            *("" if change is None else f"{change:+.4f}" for change in changes),
            *("" if span is None else f"{span[0]:+.3f} to {span[1]:+.3f}" for span in ranges),
        )
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for setting, count in figures.get("chosen on the others", {}).get("chosen", {}).items():
        console.print(f"chosen {count} times: {setting}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
