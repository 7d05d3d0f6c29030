from __future__ import annotations

import pytest

from tests.bench.latencies import Latencies


@pytest.mark.parametrize(("share", "milliseconds"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_percentiles_of_a_histogram_are_a_thousandth_exact(share: float, milliseconds: float) -> None:
    latencies = Latencies()
    for number in range(100, 0, -1):
        latencies.add(number / 1e3)
    assert latencies.percentile_ms(share) == pytest.approx(milliseconds, rel=1e-3)


def test_histogram_takes_what_is_beyond_its_ends() -> None:
    latencies = Latencies()
    assert latencies.percentile_ms(0.5) is None
    latencies.add(0.0)
    latencies.add(1e6)
    assert latencies.summary()["count"] == 2
    assert latencies.percentile_ms(1.0) == pytest.approx(60_000, rel=1e-3)
