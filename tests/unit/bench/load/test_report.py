from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.bench.load import report
from tests.bench.load.measured import Measured, Sample
from tests.bench.load.scenario import Bars, Planned, Scenario
from tests.bench.tally import Ended


def figures() -> dict[str, Any]:
    """Nine answers of 10 to 90 ms and a refusal, and no write at all."""
    given = {"name": "x", "users": 1, "turns_per_second": 0, "retrieves_per_second": 1, "warm_up_seconds": 0}
    made = Measured(Scenario.model_validate(given))
    tally = made.tallies["retrieve"]
    for number in range(1, 10):
        tally.answered.add(number / 100)
        made.add_to_course(Planned(number, "retrieve", 0, number), Ended("OK", number / 100))
    tally.statuses.update({"OK": 9, "RESOURCE_EXHAUSTED": 1})
    tally.reasons["RESOURCE_EXHAUSTED OVERLOADED"] = 1
    made.add_to_course(Planned(3, "retrieve", 0, 10), Ended("RESOURCE_EXHAUSTED", 0.01))
    made.samples += [Sample(0, 1, rss_mib=200.0), Sample(1, 1, rss_mib=300.0, cpu_cores=1.5)]
    made.elapsed_seconds = 10
    return made.figures()


def missed(**bars: Any) -> set[str]:
    targets = report.targets(Bars.model_validate(bars), figures())
    return {name for name, target in targets.items() if not target["ok"]}


BOTH = {"statuses": ["OK", "RESOURCE_EXHAUSTED"]}


@pytest.mark.parametrize(
    ("bars", "names"),
    [
        ({}, {"calls with other statuses"}),
        (BOTH, set()),
        ({**BOTH, "retrieve": {"p50_ms": 51, "max_ms": 91, "ok_share": 0.9}, "rss_mib": 300}, set()),
        ({**BOTH, "retrieve": {"p50_ms": 49, "p95_ms": 91}}, {"retrieve p50_ms"}),
        ({**BOTH, "retrieve": {"ok_share": 0.91}}, {"retrieve ok_share"}),
        ({**BOTH, "write": {"p95_ms": 1000, "ok_share": 0.0}}, {"write p95_ms", "write ok_share"}),
        ({**BOTH, "rss_mib": 299}, {"rss_mib"}),
    ],
)
def test_each_bar_is_judged_and_what_has_no_figure_is_missed(bars: dict[str, Any], names: set[str]) -> None:
    assert missed(**bars) == names


def test_a_refusal_that_does_not_say_when_to_come_back_is_missed_whatever_the_bars() -> None:
    made = figures()
    made["calls"]["retrieve"]["refusals_without_retry_info"] = 1
    assert not report.targets(Bars.model_validate(BOTH), made)["refusals without RetryInfo"]["ok"]


def test_the_table_says_what_came_of_the_calls_and_which_bar_is_missed() -> None:
    made = figures()
    targets = report.targets(Bars.model_validate({"retrieve": {"p50_ms": 1}}), made)
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as captured:
        report.print_tables(console, {"figures": made, "targets": targets})
    shown = captured.get()
    for part in ("90.00%", "RESOURCE_EXHAUSTED OVERLOADED", "retrieve p50_ms: 50.0, bar 1: MISSED", "rss mib most 300"):
        assert part in shown
    assert "write" not in shown


def test_the_plot_is_drawn_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.svg"
    is_drawn = report.plot({"figures": json.loads(json.dumps(figures())), "scenario": {"name": "x"}}, path)
    assert is_drawn == path.exists()
