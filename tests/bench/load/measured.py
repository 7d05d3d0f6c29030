"""What is measured of a run: a tally for each kind of call, the course of it in bins, and samples of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.latencies import Latencies
from tests.bench.load.scenario import KINDS, Kind, Planned, Scenario
from tests.bench.tally import NOT_SENT, OK, OVERLOADED, Ended, Tally

MOST_BINS = 240
BIN_DIGITS = 2
"""Figures of a bin's latencies that are exact: it is for a plot."""


class Bin:
    """A part of the run's time: what came of the calls that were to be sent in it."""

    def __init__(self) -> None:
        self.counts = {"ok": 0, "refused": 0, "other": 0}
        self.answered = Latencies(digits=BIN_DIGITS)

    def add(self, ended: Ended) -> None:
        """Count a call."""
        self.counts[{OK: "ok", OVERLOADED: "refused"}.get(ended.status, "other")] += 1
        if ended.status == OK:
            self.answered.add(ended.seconds)


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at one moment.

    Attributes:
        at: Seconds from the begin of what is counted; negative in the warm-up.
        open_calls: Of the generator's.
        rss_mib, cpu_cores: Resident memory, and how many cores were busy since the sample before; None where the process
            can't be looked at.
        resident_mib, store_mib, pending_jobs: As GetStats says; None where it doesn't, or was not asked this time.
    """

    at: float
    open_calls: int
    rss_mib: float | None = None
    cpu_cores: float | None = None
    resident_mib: float | None = None
    store_mib: float | None = None
    pending_jobs: int | None = None


@dataclass
class Measured:
    """A run's figures, while it goes on and afterwards."""

    scenario: Scenario
    tallies: dict[Kind, Tally] = field(default_factory=lambda: {kind: Tally() for kind in KINDS})
    warm_up: Tally = field(default_factory=Tally)
    samples: list[Sample] = field(default_factory=list)
    cut_count: int = 0
    """Answers to Retrieve, among those counted, of which the deadline left a part unjudged."""
    elapsed_seconds: float = 0.0
    open_calls: int = 0

    def __post_init__(self) -> None:
        self.bin_seconds = max(1.0, self.scenario.seconds / MOST_BINS)
        count = int(self.scenario.seconds / self.bin_seconds) + 1
        self.bins: dict[Kind, list[Bin]] = {kind: [Bin() for _ in range(count)] for kind in KINDS}

    def tally(self, planned: Planned) -> Tally:
        """Where a call counts: the warm-up's calls are sent, and not counted."""
        return self.tallies[planned.kind] if self.is_counted(planned) else self.warm_up

    def is_counted(self, planned: Planned) -> bool:
        """Whether a call is after the warm-up."""
        return planned.at >= self.scenario.warm_up_seconds

    def add_to_course(self, planned: Planned, ended: Ended) -> None:
        """Count a call that ended in the bin of the moment at which it was to be sent."""
        if self.is_counted(planned):
            at = planned.at - self.scenario.warm_up_seconds
            self.bins[planned.kind][int(at / self.bin_seconds)].add(ended)

    def figures(self) -> dict[str, Any]:
        """All of it as numbers."""
        answers = len(self.tallies["retrieve"].answered)
        return {
            "calls": {kind: _figures(tally, self.elapsed_seconds) for kind, tally in self.tallies.items()},
            "cut_share": round(self.cut_count / answers, 4) if answers else None,
            "warm_up_statuses": dict(self.warm_up.statuses),
            "elapsed_seconds": round(self.elapsed_seconds, 2),
            "server": _server_figures(self.samples),
            "course": {
                kind: [
                    {
                        "at": round(number * self.bin_seconds, 1),
                        **bin_.counts,
                        "p50_ms": bin_.answered.percentile_ms(0.5),
                        "p95_ms": bin_.answered.percentile_ms(0.95),
                    }
                    for number, bin_ in enumerate(bins)
                ]
                for kind, bins in self.bins.items()
            },
            "samples": [
                {name: value for name in Sample.__slots__ if (value := getattr(sample, name)) is not None}
                for sample in self.samples
            ],
        }


def _figures(tally: Tally, elapsed_seconds: float) -> dict[str, Any]:
    total = tally.statuses.total()
    return {
        "sent": total - tally.statuses[NOT_SENT],
        "ok_share": round(tally.statuses[OK] / total, 6) if total else None,
        "answers_per_second": round(tally.statuses[OK] / elapsed_seconds, 2) if elapsed_seconds else None,
        "answered": tally.answered.summary(),
        "failed": tally.failed.summary(),
        "generator_late": tally.late.summary(),
        "statuses": dict(tally.statuses),
        "reasons": dict(tally.reasons),
        "refusals_without_retry_info": tally.without_retry_info,
    }


def _server_figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """Of what is counted; None where there is no such figure."""

    def most(values: Sequence[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    counted = [sample for sample in samples if sample.at >= 0]
    cores = [sample.cpu_cores for sample in counted if sample.cpu_cores is not None]
    return {
        "rss_mib_before": next((sample.rss_mib for sample in samples), None),
        "rss_mib_most": most([sample.rss_mib for sample in samples]),
        "rss_mib_after": samples[-1].rss_mib if samples else None,
        "cpu_cores_mean": round(sum(cores) / len(cores), 2) if cores else None,
        "open_calls_most": most([sample.open_calls for sample in counted]),
        "resident_mib_most": most([sample.resident_mib for sample in counted]),
        "store_mib_most": most([sample.store_mib for sample in counted]),
        "pending_jobs_most": most([sample.pending_jobs for sample in counted]),
    }
