"""The estimator of times."""

from __future__ import annotations

import pytest

from lightmem_server.slm.pace import Pace


def test_the_first_observation_replaces_the_guess() -> None:
    pace = Pace(1.0)
    pace.observe(100, 0.1)
    assert pace.seconds_per_unit == pytest.approx(0.001)


def test_a_steady_pace_is_estimated_exactly() -> None:
    pace = Pace(1.0)
    for _ in range(100):
        pace.observe(50, 0.1)
    assert pace.estimate(100) == pytest.approx(0.2, rel=1e-6)


def test_scattered_times_make_the_estimate_careful() -> None:
    pace = Pace(1.0)
    for seconds in (0.1, 0.3) * 50:
        pace.observe(100, seconds)
    assert pace.estimate(100) > 0.28


def test_it_follows_a_machine_that_became_slower() -> None:
    pace = Pace(1.0)
    for seconds in [0.1] * 20 + [0.4] * 20:
        pace.observe(100, seconds)
    assert pace.seconds_per_unit == pytest.approx(0.004, rel=0.1)


@pytest.mark.parametrize(("units", "expected"), [(0, 0.01), (100, 0.05), (101, 0.06)])
def test_retry_after_is_half_the_queue_in_steps_of_ten_milliseconds(units: int, expected: float) -> None:
    assert Pace(0.001).retry_after(units, 1) == pytest.approx(expected)


def test_more_workers_drain_sooner() -> None:
    assert Pace(0.001).retry_after(1000, 4) == pytest.approx(Pace(0.001).retry_after(1000, 1) / 4, abs=0.01)


def test_a_work_that_took_very_long_does_not_keep_work_from_being_begun_for_ever() -> None:
    pace = Pace(0.001)
    pace.observe(100, 0.1)
    pace.observe(100, 1000.0)
    assert pace.estimate(100) > 100
    for _ in range(200):
        pace.relax()
    assert pace.estimate(100) == pytest.approx(0.1, rel=1e-3)
