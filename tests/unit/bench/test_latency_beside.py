from __future__ import annotations

from tests.bench.latency_beside import ratios


def test_ratios_are_of_all_rounds_together_and_of_each() -> None:
    made = ratios([([1.0, 2.0], [2.0, 4.0]), ([1.0, 2.0], [1.0, 2.0])])
    assert made == {
        "p50_ratio": 2.0,
        "p95_ratio": 2.0,
        "p95_ratio_lowest": 1.0,
        "p95_ratio_median": 1.5,
        "p95_ratio_highest": 2.0,
    }
