"""Figures of a quality run: turn-level evidence recall, hit@1, MRR, latency; as numbers and as tables."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.datasets import Question

MRR_DEPTH = 10
"""Reciprocal ranks count to here: what a default answer holds."""

ANSWERABLE = frozenset({"1", "2", "3", "4"})
"""LoCoMo's categories without the adversarial fifth."""

BARS = {"recall_at_10": 0.74, "mrr": 0.57}
"""What the questions of all categories together must reach."""

Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back for one question.

    Attributes:
        ranking: Turn ids of a default answer, best first; "" for a memory that is no turn of the data.
        deep_ranking: The same of the deep pass; None when there was none.
        elapsed_seconds: Of the default answer, at the client.
        server_seconds: Of the default answer, as its trace says.
        stage_seconds: The trace's stages.
    """

    question: Question
    ranking: tuple[str, ...]
    deep_ranking: tuple[str, ...] | None
    elapsed_seconds: float
    server_seconds: float
    stage_seconds: Mapping[str, float]
    is_cut_by_deadline: bool


def recall(ranking: Sequence[str], evidence: frozenset[str], k: int) -> float:
    """The share of the evidence turns among the first k.

    >>> recall(["a", "x", "b"], frozenset("abc"), 3)
    0.6666666666666666
    """
    return len(evidence.intersection(ranking[:k])) / len(evidence)


def reciprocal_rank(ranking: Sequence[str], evidence: frozenset[str]) -> float:
    """1 / the rank of the first evidence turn, 0 when there is none among the first MRR_DEPTH.

    >>> reciprocal_rank(["x", "a"], frozenset("ab"))
    0.5
    """
    for rank, turn_id in enumerate(ranking[:MRR_DEPTH], start=1):
        if turn_id in evidence:
            return 1 / rank
    return 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least this share of the values don't exceed.

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.95)
    (2, 4)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def quality(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The averages over some questions, at least one. Deep figures are None when there was no deep pass."""
    deep = [
        (outcome.deep_ranking, outcome.question.evidence) for outcome in outcomes if outcome.deep_ranking is not None
    ]
    pairs = [(outcome.ranking, outcome.question.evidence) for outcome in outcomes]
    return {
        "recall_at_5": _mean([recall(ranking, evidence, 5) for ranking, evidence in pairs]),
        "recall_at_10": _mean([recall(ranking, evidence, 10) for ranking, evidence in pairs]),
        "recall_at_20": _mean([recall(ranking, evidence, 20) for ranking, evidence in deep]),
        "recall_at_50": _mean([recall(ranking, evidence, 50) for ranking, evidence in deep]),
        "hit_at_1": _mean([float(bool(evidence.intersection(ranking[:1]))) for ranking, evidence in pairs]),
        "mrr": _mean([reciprocal_rank(ranking, evidence) for ranking, evidence in pairs]),
        "questions": len(outcomes),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(math.fsum(values) / len(values), 6) if values else None


def latency(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """p50 and p95 in ms of each stage, of the server as a whole, and end to end."""
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.stage_seconds)
    seconds = {
        name: [outcome.stage_seconds[name] for outcome in outcomes if name in outcome.stage_seconds] for name in names
    }
    seconds["server"] = [outcome.server_seconds for outcome in outcomes]
    seconds["end_to_end"] = [outcome.elapsed_seconds for outcome in outcomes]
    made: dict[str, Any] = {
        name: {"p50_ms": _milliseconds(values, 0.5), "p95_ms": _milliseconds(values, 0.95), "count": len(values)}
        for name, values in seconds.items()
    }
    made["end_to_end"]["cut_by_deadline_count"] = sum(outcome.is_cut_by_deadline for outcome in outcomes)
    return made


def _milliseconds(seconds: Sequence[float], share: float) -> float:
    return round(percentile(seconds, share) * 1e3, 3)


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """Everything that is measured: all categories, each one, LoCoMo's 1 to 4 where there are any, and the stages."""
    made = {"all": quality(outcomes)}
    for category in sorted({outcome.question.category for outcome in outcomes}):
        made[f"category_{category}"] = quality([one for one in outcomes if one.question.category == category])
    answerable = [outcome for outcome in outcomes if outcome.question.category in ANSWERABLE]
    if answerable:
        made["categories_1_4"] = quality(answerable)
    made["stages"] = latency(outcomes)
    return made


def targets(made: Figures) -> dict[str, dict[str, Any]]:
    """Each bar, and whether it is reached."""
    return {
        name: {"value": made["all"][name], "bar": bar, "ok": made["all"][name] >= bar} for name, bar in BARS.items()
    }


def print_tables(console: Console, report: Mapping[str, Any]) -> None:
    """The report for people."""
    made: Figures = report["figures"]
    table = Table("questions", "n", "R@5", "R@10", "R@20*", "R@50*", "hit@1", "MRR", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, values in made.items():
        if name != "stages":
            scores = ("recall_at_5", "recall_at_10", "recall_at_20", "recall_at_50", "hit_at_1", "mrr")
            table.add_row(
                name.replace("_", " "),
                str(values["questions"]),
                *("" if values[score] is None else f"{values[score]:.4f}" for score in scores),
            )
    console.print(table)
    console.print(
        "* deep pass: 50 memories, 100 candidates, a long deadline; the others from default answers", style="dim"
    )
    stages = Table("stage", "p50 ms", "p95 ms", box=None, header_style="bold")
    for column in stages.columns[1:]:
        column.justify = "right"
    for name, values in made["stages"].items():
        stages.add_row(name.replace("_", " "), f"{values['p50_ms']:.1f}", f"{values['p95_ms']:.1f}")
    console.print(stages)
    end_to_end = made["stages"]["end_to_end"]
    console.print(f"{end_to_end['cut_by_deadline_count']} of {end_to_end['count']} answers were cut by the deadline")
    for name, target in report["targets"].items():
        verdict = "[green]reached[/]" if target["ok"] else "[bold red]MISSED[/]"
        console.print(f"{name}: {target['value']:.4f}, bar {target['bar']}: {verdict}", highlight=False)


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit(root: Path) -> str:
    """The commit of the working tree, "+" behind it when there are changes; "" outside a repository."""
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    ended = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return ended.stdout.strip()
