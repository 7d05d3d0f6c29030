from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tests.bench import latency_report
from tests.bench.loops import Recorder
from tests.unit.bench.test_loops import answer


def step(seconds: float, statuses: dict[str, int] | None = None) -> dict[str, Any]:
    recorder = Recorder()
    recorder.add(answer(seconds=seconds), waited_seconds=0, service_seconds=seconds)
    recorder.statuses.update(statuses or {})
    recorder.elapsed_seconds = 1
    return recorder.figures()


def clients(seconds: float, *, share: float = 0.95, statuses: dict[str, int] | None = None) -> dict[str, Any]:
    steps = {"1 client": step(seconds), "16 clients": step(seconds, statuses)}
    shares = {"throughput_of_selector": share, "full_throughput_of_selector": share}
    return {"clients": {"steps": steps, **shares}}


def verdicts(figures: dict[str, Any]) -> dict[str, bool]:
    return {name: made["ok"] for name, made in latency_report.targets(figures).items()}


def test_one_client_and_throughput_have_bars() -> None:
    assert set(verdicts(clients(0.02)).values()) == {True}
    assert verdicts(clients(0.1)) == {
        "one_client_p50_ms": False,
        "one_client_p95_ms": True,
        "throughput_of_selector": True,
        "full_throughput_of_selector": True,
        "errors_but_exhausted": True,
    }
    assert verdicts(clients(0.02, share=0.89))["throughput_of_selector"] is False


@pytest.mark.parametrize(
    ("status", "is_fine"), [("RESOURCE_EXHAUSTED", True), ("UNAVAILABLE", False), ("INTERNAL", False)]
)
def test_overload_may_be_refused_and_nothing_else(status: str, is_fine: bool) -> None:
    assert verdicts(clients(0.02, statuses={status: 3}))["errors_but_exhausted"] is is_fine


def test_answer_may_be_fifteen_milliseconds_late() -> None:
    figures = {"deadline": {"20 ms": {"deadline_ms": 20, **step(0.0345)}, "50 ms": {"deadline_ms": 50, **step(0.0655)}}}
    assert verdicts(figures) == {"deadline_20_ms_p99_ms": True, "deadline_50_ms_p99_ms": False}


def test_ratio_has_an_inclusive_upper_bar() -> None:
    assert verdicts({"scale": {"ratio": 1.3}}) == {"p50_100k_over_1k": True}
    assert verdicts({"scale": {"ratio": 1.31}}) == {"p50_100k_over_1k": False}


@pytest.mark.parametrize(("ratio", "of_one", "traced"), [(1.0, 1.01, 1.01), (1.01, 1.0, 1.01), (1.01, 1.01, 1.0)])
def test_plain_line_is_met_with_its_users_and_with_one(ratio: float, of_one: float, traced: float) -> None:
    assert verdicts({"off": {"ratio": ratio, "of_one_ratio": of_one, "traced_ratio": traced}}) == {
        "off_over_plain_line": ratio <= 1,
        "off_over_plain_line_of_one": of_one <= 1,
        "traced_off_over_plain_line": traced <= 1,
    }


def test_parts_that_were_not_measured_have_no_bars() -> None:
    assert latency_report.targets({"cold": {"steps": {"1000": step(1)}}}) == {}


def test_paired_ratio_is_of_the_medians_of_each_round() -> None:
    ours, theirs = [[1, 2, 9], [4, 4, 4], [3, 3, 3]], [[2, 2, 2], [2, 2, 2], [1, 1, 30]]
    assert latency_report.paired_ratio(ours, theirs) == {"ratio": 2.0, "ratio_lowest": 1.0, "ratio_highest": 3.0}


def test_tables_show_steps_stages_and_what_was_missed() -> None:
    text = io.StringIO()
    off = {"steps": {"off": step(0.01)}, "ratio": 0.9, "of_one_ratio": 1.1, "traced_ratio": 1.0}
    figures = {**clients(0.1, statuses={"RESOURCE_EXHAUSTED": 3}), "off": off}
    result = {"figures": figures, "targets": latency_report.targets(figures)}
    latency_report.print_tables(Console(file=text, width=160), result)
    for shown in ("16 clients", "embed", "RESOURCE_EXHAUSTED 3", "off: ratio: 0.9", "MISSED", "reached"):
        assert shown in text.getvalue()
