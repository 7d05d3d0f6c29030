from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.bench import report
from tests.bench.datasets import Question


def outcome(
    ranking: str, evidence: str, *, deep: str | None = None, category: str = "1", seconds: float = 0.01
) -> report.Outcome:
    return report.Outcome(
        question=Question("q", "?", category, frozenset(evidence)),
        ranking=tuple(ranking),
        deep_ranking=None if deep is None else tuple(deep),
        elapsed_seconds=seconds,
        server_seconds=seconds / 2,
        stage_seconds={"embed": seconds / 4},
        is_cut_by_deadline=False,
    )


@pytest.mark.parametrize(
    ("ranking", "evidence", "k", "expected"),
    [
        ("abc", "a", 1, 1.0),
        ("abc", "ac", 2, 0.5),
        ("abc", "xyz", 3, 0.0),
        ("", "a", 10, 0.0),
        ("aab", "ab", 2, 0.5),
    ],
)
def test_recall_is_the_share_of_the_evidence(ranking: str, evidence: str, k: int, expected: float) -> None:
    assert report.recall(tuple(ranking), frozenset(evidence), k) == expected


@pytest.mark.parametrize(
    ("ranking", "evidence", "expected"),
    [("abc", "c", 1 / 3), ("abc", "cb", 1 / 2), ("abc", "x", 0.0), ("0123456789x", "x", 0.0), ("012345678x", "x", 0.1)],
)
def test_reciprocal_rank_counts_to_ten(ranking: str, evidence: str, expected: float) -> None:
    assert report.reciprocal_rank(tuple(ranking), frozenset(evidence)) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (1.0, 100), (0.0, 1)])
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert report.percentile(range(100, 0, -1), share) == expected


def test_quality_averages_over_questions() -> None:
    made = report.quality([outcome("ab", "a", deep="abc"), outcome("xyzuvb", "bc", deep="xyzuvbc")])
    assert made == {
        "recall_at_5": 0.5,
        "recall_at_10": 0.75,
        "recall_at_20": 1.0,
        "recall_at_50": 1.0,
        "hit_at_1": 0.5,
        "mrr": round((1 + 1 / 6) / 2, 6),
        "questions": 2,
    }


def test_memory_that_is_no_turn_takes_its_rank() -> None:
    one = outcome("a", "a")
    behind = report.Outcome(one.question, ("", "a"), None, 0.1, 0.1, {}, False)
    assert report.quality([behind])["mrr"] == 0.5


def test_without_deep_pass_there_are_no_deep_figures() -> None:
    made = report.quality([outcome("ab", "a")])
    assert (made["recall_at_20"], made["recall_at_50"]) == (None, None)


def test_categories_are_reported_apart_and_one_to_four_together() -> None:
    made = report.figures([outcome("a", "a", category="1"), outcome("x", "a", category="5")])
    assert made["all"]["recall_at_10"] == 0.5
    assert made["category_1"]["recall_at_10"] == made["categories_1_4"]["recall_at_10"] == 1.0
    assert made["category_5"]["recall_at_10"] == 0.0
    assert "categories_1_4" not in report.figures([outcome("a", "a", category="temporal")])


def test_latency_is_per_stage_and_end_to_end() -> None:
    made = report.latency([outcome("a", "a", seconds=number / 100) for number in range(1, 21)])
    assert made["end_to_end"] == {"p50_ms": 100.0, "p95_ms": 190.0, "count": 20, "cut_by_deadline_count": 0}
    assert made["server"]["p50_ms"] == 50.0
    assert made["embed"]["p50_ms"] == 25.0


def test_bars_are_inclusive() -> None:
    made = {"all": {"recall_at_10": 0.74, "mrr": 0.5699}}
    assert report.targets(made) == {
        "recall_at_10": {"value": 0.74, "bar": 0.74, "ok": True},
        "mrr": {"value": 0.5699, "bar": 0.57, "ok": False},
    }


def test_tables_say_what_was_missed() -> None:
    made = report.figures([outcome("x", "a")])
    text = io.StringIO()
    report.print_tables(Console(file=text, width=120), {"figures": made, "targets": report.targets(made)})
    assert "MISSED" in text.getvalue()
    assert "end to end" in text.getvalue()


def test_machine_is_named() -> None:
    made = report.machine()
    assert made["cores"] >= 1
    assert all(made.values())
