"""Selectors beside each other: on the same shortlists, on the same machine, in the same run.

    python -m tests.bench.selectors --data locomo10.json
    python -m tests.bench.selectors --layout friendsqa --data friendsqa.jsonl.gz --held-out
    python -m tests.bench.selectors --selectors NAME NAME ...          the first is what the others are compared with

The pipeline in this process judges every question's shortlist with each Selector, each with the constants that belong to it
(pipeline/tuning.py) but reading as far as the first, in modes FAST and FULL: R@10 and MRR, by category too, and the difference
to the first with its 95 % interval over questions drawn anew. ECE is of the relevance that is returned with each judged memory,
and of the logit alone. Time is of judging alone, round after round in turns: milliseconds per 1,000 tokens, and the ratio to
the first for the same shortlists.

`--held-out` keeps the two seasons of FriendsQA that our Selector wasn't trained on. Writes target/bench/selectors.json.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lightmem_server.config import load
from lightmem_server.pipeline.passages import judged_passage
from lightmem_server.pipeline.retrieval import SelectorMode
from lightmem_server.pipeline.select import within
from lightmem_server.pipeline.tuning import JudgedLimits, Tuning, tuning_for
from lightmem_server.slm.convert import TOKENIZER_FILE
from lightmem_server.slm.distill.evaluation import calibration_error, to_probabilities
from lightmem_server.slm.protocols import Selector
from lightmem_server.slm.selector import load_selector
from lightmem_server.slm.tokens import load_tokenizer
from tests.bench import report
from tests.bench.datasets import Conversation, take_quick
from tests.bench.in_process import MEMORY_FILE, Answer, told
from tests.bench.memo import Memory
from tests.bench.options import ROOT, add_held_out, make_parser, open_bars, parse_options, read_conversations

RESULT_FILE = ROOT / "target" / "bench" / "selectors.json"
SELECTORS = ("ms-marco-MiniLM-L-12-v2", "lightmem-selector-l4")
MODES = (SelectorMode.FAST, SelectorMode.FULL)
QUICK_QUESTIONS = 8
TIMED_LISTS = 60
ROUNDS = 7
RESAMPLES = 2000


@dataclass(slots=True)
class Judged:
    """What one Selector made of all questions in one mode: per question, and of the memories that it read."""

    recall: list[float] = field(default_factory=list)
    reciprocal_rank: list[float] = field(default_factory=list)
    category: list[str] = field(default_factory=list)
    relevance: list[float] = field(default_factory=list)
    logit: list[float] = field(default_factory=list)
    is_evidence: list[float] = field(default_factory=list)

    def note(self, answer: Answer, turns: Mapping[str, str]) -> None:
        """Take in an answer."""
        evidence = answer.question.evidence
        self.recall.append(report.recall(answer.ranking, evidence, 10))
        self.reciprocal_rank.append(report.reciprocal_rank(answer.ranking, evidence))
        self.category.append(answer.question.category)
        for candidate in answer.trace.candidates:
            if candidate.logit is not None and candidate.relevance is not None:
                self.relevance.append(candidate.relevance)
                self.logit.append(candidate.logit)
                self.is_evidence.append(float(turns.get(str(candidate.memory_id)) in evidence))

    def figures(self, against: Judged) -> dict[str, Any]:
        """Averages, and how they differ from another's over the same questions."""
        is_evidence = np.array(self.is_evidence)
        by_category: dict[str, list[int]] = defaultdict(list)
        for index, category in enumerate(self.category):
            by_category[category].append(index)
        return {
            "questions": len(self.recall),
            "recall_at_10": statistics.fmean(self.recall),
            "mrr": statistics.fmean(self.reciprocal_rank),
            "recall_at_10_change": interval(self.recall, against.recall),
            "mrr_change": interval(self.reciprocal_rank, against.reciprocal_rank),
            "ece_relevance": calibration_error(np.array(self.relevance), is_evidence),
            "ece_logit": calibration_error(to_probabilities(np.array(self.logit)), is_evidence),
            "by_category": {
                name: {
                    "questions": len(indices),
                    "recall_at_10": statistics.fmean(self.recall[index] for index in indices),
                    "mrr": statistics.fmean(self.reciprocal_rank[index] for index in indices),
                }
                for name, indices in sorted(by_category.items())
            },
        }


def interval(values: Sequence[float], against: Sequence[float]) -> list[float]:
    """Mean difference of paired values, and its 95 % interval over pairs drawn with replacement (Efron 1979)."""
    differences = np.array(values) - np.array(against)
    generator = np.random.default_rng(0)
    means = differences[generator.integers(len(differences), size=(RESAMPLES, len(differences)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return [float(differences.mean()), float(low), float(high)]


async def judge_all(
    conversations: Sequence[Conversation], memory: Memory, names: Sequence[str], bars: Progress
) -> tuple[dict[str, dict[str, Judged]], list[tuple[str, list[str]]]]:
    """By mode and Selector what came of every question; and some of the shortlists that were judged in mode FULL."""
    made: dict[str, dict[str, Judged]] = {mode.name: {} for mode in MODES}
    shortlists: list[tuple[str, list[str]]] = []
    for name in names:
        async with told(conversations, memory, bars, selector=name) as bench:
            for mode in MODES:
                judged = made[mode.name][name] = Judged()
                async for answer in bench.ask(like_first(name, names[0]), mode, bars, f"{name}, {mode.name}"):
                    judged.note(answer, bench.turns)
                    if name == names[0] and mode is SelectorMode.FULL:
                        shortlists.append(_shortlist(answer, tuning_for(name).full))
    return made, random.Random(0).sample(shortlists, min(TIMED_LISTS, len(shortlists)))


def like_first(name: str, first: str) -> Tuning:
    """The constants of a Selector, and how far the first one of the bench reads."""
    limits = tuning_for(first)
    return replace(tuning_for(name), fast=limits.fast, full=limits.full)


def _shortlist(answer: Answer, limits: JudgedLimits) -> tuple[str, list[str]]:
    alive = [candidate for candidate in answer.trace.candidates if candidate.memory is not None]
    ordered = sorted(alive, key=lambda candidate: candidate.coarse_rank)
    read = within(limits, answer.trace.plan, ordered)
    return answer.trace.plan.judged, [judged_passage(one.memory, one.preceding) for one in read if one.memory]


async def time_judging(shortlists: Sequence[tuple[str, Sequence[str]]], names: Sequence[str]) -> dict[str, Any]:
    """Seconds of each Selector over all shortlists, in turns, round by round."""
    models_dir = load().models_dir
    selectors: dict[str, Selector] = {name: load_selector(models_dir, name) for name in names}
    tokenizer = load_tokenizer(models_dir / names[0] / TOKENIZER_FILE)
    tokens = sum(len(tokenizer.encode(query, passage)) for query, passages in shortlists for passage in passages)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(ROUNDS + 1):
        for name, selector in selectors.items():
            began = time.perf_counter()
            for query, passages in shortlists:
                await selector.judge(query, passages)
            if round_:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    for selector in selectors.values():
        await selector.close()
    first = seconds[names[0]]
    return {
        name: {
            "ms_per_1000_tokens": 1e6 * statistics.median(of_one) / tokens,
            "ms_per_shortlist": 1e3 * statistics.median(of_one) / len(shortlists),
            "ratio": _spread([own / base for own, base in zip(of_one, first, strict=True)]),
        }
        for name, of_one in seconds.items()
    }


def _spread(values: Sequence[float]) -> list[float]:
    """Median, least, most."""
    return [statistics.median(values), min(values), max(values)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--selectors", nargs="+", default=list(SELECTORS), metavar="NAME")
    add_held_out(parser)
    options = parse_options(parser, arguments)
    conversations = read_conversations(options)
    if isinstance(conversations, int):
        return conversations
    if options.quick:
        conversations = take_quick(conversations, QUICK_QUESTIONS)
    memory = Memory(MEMORY_FILE)
    try:
        with open_bars() as bars:
            made, shortlists = asyncio.run(judge_all(conversations, memory, options.selectors, bars))
    finally:
        memory.close()
    result = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {"data": options.data.name, "layout": options.layout, "held_out": options.held_out},
        "figures": {
            "quality": {
                mode: {name: judged.figures(by_name[options.selectors[0]]) for name, judged in by_name.items()}
                for mode, by_name in made.items()
            },
            "time": asyncio.run(time_judging(shortlists, options.selectors)),
        },
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print_tables(Console(width=None if sys.stdout.isatty() else 140), result["figures"])
    return 0


def print_tables(console: Console, figures: Mapping[str, Any]) -> None:
    """The figures for people."""
    headings = ("R@10", "change", "MRR", "change", "ECE", "ECE, logit")
    table = Table("mode", "Selector", *headings, box=None, header_style="bold")
    for mode, by_name in figures["quality"].items():
        for name, row in by_name.items():
            changes = [
                f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
                for mean, low, high in (row["recall_at_10_change"], row["mrr_change"])
            ]
            errors = (f"{row['ece_relevance']:.3f}", f"{row['ece_logit']:.3f}")
            table.add_row(
                mode, name, f"{row['recall_at_10']:.4f}", changes[0], f"{row['mrr']:.4f}", changes[1], *errors
            )
    console.print(table)
    by_category = Table("mode", "Selector", "category", "R@10", "MRR", "questions", box=None, header_style="bold")
    for mode, by_name in figures["quality"].items():
        for name, row in by_name.items():
            for category, part in row["by_category"].items():
                shown = (f"{part['recall_at_10']:.4f}", f"{part['mrr']:.4f}", str(part["questions"]))
                by_category.add_row(mode, name, category, *shown)
    console.print(by_category)
    times = Table("Selector", "ms per 1,000 tokens", "ms per shortlist", "ratio", box=None, header_style="bold")
    for name, row in figures["time"].items():
        median, least, most = row["ratio"]
        ratio = f"{median:.3f} ({least:.3f}-{most:.3f})"
        times.add_row(name, f"{row['ms_per_1000_tokens']:.1f}", f"{row['ms_per_shortlist']:.1f}", ratio)
    console.print(times)


if __name__ == "__main__":
    sys.exit(main())
