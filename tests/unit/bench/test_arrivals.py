from __future__ import annotations

import itertools
import statistics
from collections import Counter

import pytest

from tests.bench.arrivals import PROCESSES, make_arrivals


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    arrivals = make_arrivals(50, 400, seed=3)
    gaps = [later - earlier for earlier, later in itertools.pairwise([0.0, *arrivals])]
    assert arrivals == sorted(arrivals)
    assert all(0 <= moment < 400 for moment in arrivals)
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert statistics.pstdev(gaps) == pytest.approx(1 / 50, rel=0.05)  # an exponential's deviation is its mean


def test_arrivals_are_those_of_the_seed() -> None:
    assert make_arrivals(10, 5, seed=1) == make_arrivals(10, 5, seed=1)
    assert make_arrivals(10, 5, seed=1) != make_arrivals(10, 5, seed=2)


@pytest.mark.parametrize("process", sorted(PROCESSES))
def test_every_process_keeps_the_rate_and_the_order(process: str) -> None:
    arrivals = make_arrivals(50, 400, seed=3, process=process, burst_size=5)
    assert arrivals == sorted(arrivals)
    assert all(0 <= moment < 400 for moment in arrivals)
    assert len(arrivals) == pytest.approx(50 * 400, rel=0.05)
    assert arrivals == make_arrivals(50, 400, seed=3, process=process, burst_size=5)


def test_a_constant_process_leaves_equal_gaps() -> None:
    assert make_arrivals(4, 1, seed=1, process="constant") == [0, 0.25, 0.5, 0.75]


def test_a_burst_comes_at_one_moment_and_the_moments_are_a_poisson_process() -> None:
    sizes = Counter(make_arrivals(50, 800, seed=3, process="burst", burst_size=20))
    assert set(sizes.values()) == {20}
    gaps = [later - earlier for earlier, later in itertools.pairwise([0.0, *sizes])]
    assert statistics.mean(gaps) == pytest.approx(20 / 50, rel=0.05)
    assert statistics.pstdev(gaps) == pytest.approx(20 / 50, rel=0.1)


def test_a_rate_of_zero_calls_never() -> None:
    assert make_arrivals(0, 10, seed=1) == []
