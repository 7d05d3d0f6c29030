"""The comparison of Selectors: its figures, and the bench from its first line to its last."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lightmem_server.pipeline.tuning import tuning_for
from tests.bench import selectors
from tests.bench.selectors import SELECTORS, Judged, interval, like_first
from tests.unit.bench.test_datasets import dialogue, question, write_jsonl


def judged(recall: list[float]) -> Judged:
    return Judged(
        recall=recall,
        reciprocal_rank=recall,
        category=["a", "b"] * (len(recall) // 2),
        relevance=[0.9, 0.1] * 10,
        logit=[4.0, -4.0] * 10,
        is_evidence=[1.0, 0.0] * 10,
    )


def test_a_difference_comes_with_its_interval() -> None:
    mean, low, high = interval([1.0, 0.0] * 50, [0.0, 0.0] * 50)
    assert mean == 0.5
    assert 0.35 < low < 0.5 < high < 0.65
    assert interval([0.3, 0.7], [0.3, 0.7]) == [0.0, 0.0, 0.0]


def test_each_has_its_own_constants_and_reads_as_far_as_the_first() -> None:
    first, second = SELECTORS
    assert like_first(first, first) == tuning_for(first)
    tuning = like_first(second, first)
    assert (tuning.fast, tuning.full) == (tuning_for(first).fast, tuning_for(first).full)
    assert tuning.fast != tuning_for(second).fast
    assert (tuning.logit_weight, tuning.judged) == (tuning_for(second).logit_weight, tuning_for(second).judged)


def test_figures_are_by_category_too_and_against_the_first() -> None:
    figures = judged([1.0, 0.0]).figures(judged([0.0, 0.0]))
    assert figures["recall_at_10"] == 0.5
    assert figures["recall_at_10_change"][0] == 0.5
    assert figures["by_category"]["a"] == {"questions": 1, "recall_at_10": 1.0, "mrr": 1.0}
    assert figures["ece_relevance"] == pytest.approx(0.1)
    assert figures["ece_logit"] == pytest.approx(0.018, abs=0.001)


@pytest.mark.models
def test_two_selectors_are_compared_from_the_first_line_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors, "RESULT_FILE", tmp_path / "selectors.json")
    monkeypatch.setattr(selectors, "MEMORY_FILE", tmp_path / "remembered.sqlite")
    monkeypatch.setattr(selectors, "ROUNDS", 1)
    conversation = dialogue("a", 30)
    for turn in conversation["sessions"][0]["turns"]:
        turn["text"] = f"I bought item number {turn['turn_id']} for the kitchen."
    questions = [
        {**question(f"q{i}", "a", [f"t{i}"], 1), "question": f"Who bought item number t{i}?"} for i in range(6)
    ]
    data = write_jsonl(tmp_path, [conversation], questions)
    assert selectors.main(["--layout", "jsonl", "--data", str(data), "--quick"]) == 0
    figures = json.loads((tmp_path / "selectors.json").read_text())["figures"]
    for mode in ("FAST", "FULL"):
        by_name = figures["quality"][mode]
        assert tuple(by_name) == selectors.SELECTORS
        assert by_name[selectors.SELECTORS[0]]["mrr_change"] == [0.0, 0.0, 0.0]
        assert len({row["questions"] for row in by_name.values()}) == 1
    ratio = figures["time"][selectors.SELECTORS[1]]["ratio"]
    assert ratio[1] <= ratio[0] <= ratio[2]
    shown = io.StringIO()
    selectors.print_tables(Console(file=shown, width=140), figures)
    assert "ms per 1,000 tokens" in shown.getvalue()
