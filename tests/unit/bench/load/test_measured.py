from __future__ import annotations

import os

import pytest

from tests.bench.load.measured import Measured, Sample
from tests.bench.load.progress import line
from tests.bench.load.scenario import Kind, Planned, Scenario
from tests.bench.load.watch import ProcessWatch
from tests.bench.tally import Ended


def measured(**values: object) -> Measured:
    given = {
        "name": "x",
        "users": 1,
        "turns_per_second": 1,
        "retrieves_per_second": 1,
        "seconds": 3,
        "warm_up_seconds": 2,
    }
    return Measured(Scenario.model_validate({**given, **values}))


def planned(at: float, kind: Kind = "retrieve") -> Planned:
    return Planned(at, kind, 0, 0)


def test_the_warm_up_is_sent_and_not_counted() -> None:
    made = measured()
    assert made.tally(planned(1.9)) is made.warm_up
    assert made.tally(planned(2.0)) is made.tallies["retrieve"]
    assert made.tally(planned(2.0, "write")) is made.tallies["write"]
    made.add_to_course(planned(1.9), Ended("OK", 1.0))
    assert not any(bin_.counts["ok"] for bin_ in made.bins["retrieve"])


def test_the_course_has_each_call_where_it_was_to_be_sent() -> None:
    made = measured()
    made.add_to_course(planned(2.0), Ended("OK", 9.0))  # answered long after the end
    made.add_to_course(planned(3.5), Ended("RESOURCE_EXHAUSTED", 0.1))
    made.add_to_course(planned(4.999), Ended("UNAVAILABLE", 0.1))
    course = made.figures()["course"]["retrieve"]
    assert [(bin_["at"], bin_["ok"], bin_["refused"], bin_["other"]) for bin_ in course[:3]] == [
        (0, 1, 0, 0),
        (1, 0, 1, 0),
        (2, 0, 0, 1),
    ]
    assert course[0]["p95_ms"] == pytest.approx(9000, rel=0.02)
    assert course[1]["p95_ms"] is None


def test_a_long_run_has_no_more_bins_than_a_plot_can_show() -> None:
    assert len(measured(seconds=86_400).bins["write"]) <= 241


def test_figures_of_the_server_are_of_what_is_counted() -> None:
    made = measured()
    made.samples += [
        Sample(-2, 90, rss_mib=100, cpu_cores=None),
        Sample(0, 3, rss_mib=150, cpu_cores=1.0, pending_jobs=4),
        Sample(1, 5, rss_mib=130, cpu_cores=2.0),
    ]
    server = made.figures()["server"]
    assert (server["rss_mib_before"], server["rss_mib_most"], server["rss_mib_after"]) == (100, 150, 130)
    assert (server["cpu_cores_mean"], server["open_calls_most"], server["pending_jobs_most"]) == (1.5, 5, 4)
    assert measured().figures()["server"]["rss_mib_most"] is None


def test_the_line_of_progress_says_where_a_run_stands() -> None:
    made = measured()
    assert line(made) == "warming up; 0 open"
    made.tallies["write"].statuses.update({"OK": 3, "UNAVAILABLE": 1})
    made.tallies["write"].answered.add(0.02)
    made.samples.append(Sample(0, 2, rss_mib=200.4))
    assert line(made) == "write 3 ok, 1 not, p95 20 ms; 0 open; 200 MiB"


def test_a_process_is_looked_at_and_one_that_is_gone_is_no_failure() -> None:
    watch = ProcessWatch(os.getpid())
    assert (watch.rss_mib() or 0) > 1
    assert watch.cpu_cores() is None  # since when?
    assert (watch.cpu_cores() or 0) >= 0
    gone = ProcessWatch(2**30)
    assert (gone.rss_mib(), gone.cpu_cores()) == (None, None)
