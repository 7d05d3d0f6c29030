"""When calls are to be sent, drawn beforehand."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping

BURST_SIZE = 10


def make_arrivals(
    rate: float, seconds: float, *, seed: int, process: str = "poisson", burst_size: int = BURST_SIZE
) -> list[float]:
    """Moments in order, in seconds from the begin, all of them below `seconds`.

    Args:
        rate: Arrivals per second on average, at least 0.
        process: "poisson": independent of each other. "constant": always as far apart. "burst": so many at the same moment, the
            moments a Poisson process.
        burst_size: Of "burst".

    >>> len(make_arrivals(10, 100, seed=1)) in range(900, 1100)
    True
    >>> make_arrivals(4, 1, seed=1, process="constant")
    [0.0, 0.25, 0.5, 0.75]
    """
    if not rate:
        return []
    moments = PROCESSES[process](rate, random.Random(seed), burst_size)
    return list(itertools.takewhile(lambda moment: moment < seconds, moments))


def _poisson(rate: float, drawn: random.Random, burst_size: int) -> Iterator[float]:
    return itertools.accumulate(drawn.expovariate(rate) for _ in itertools.count())


def _constant(rate: float, drawn: random.Random, burst_size: int) -> Iterator[float]:
    return (number / rate for number in itertools.count())


def _burst(rate: float, drawn: random.Random, burst_size: int) -> Iterator[float]:
    for moment in _poisson(rate / burst_size, drawn, burst_size):
        yield from itertools.repeat(moment, burst_size)


PROCESSES: Mapping[str, Callable[[float, random.Random, int], Iterator[float]]] = {
    "poisson": _poisson,
    "constant": _constant,
    "burst": _burst,
}
