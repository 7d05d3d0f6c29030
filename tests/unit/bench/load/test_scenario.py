from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.bench.load.scenario import Scenario, ScenarioError, plan, read_scenario
from tests.bench.options import ROOT

SCENARIOS = sorted((ROOT / "tests" / "bench" / "scenarios").glob("*.toml"))
LEAST = "users = 3\nturns_per_second = 2\nretrieves_per_second = 1\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def scenario(**values: object) -> Scenario:
    given = {"name": "x", "users": 3, "turns_per_second": 20, "retrieves_per_second": 10, "seconds": 30}
    return Scenario.model_validate({**given, **values})


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenarios_that_are_checked_in_are_read_and_have_bars(path: Path) -> None:
    read = read_scenario(path)
    assert read.name == path.stem
    assert read.description
    assert read.bars.retrieve != type(read.bars.retrieve)()


def test_three_numbers_are_enough(tmp_path: Path) -> None:
    read = read_scenario(write(tmp_path, LEAST))
    assert (read.name, read.users, read.rate("write"), read.rate("retrieve")) == ("mine", 3, 2, 1)
    assert (read.arrivals.process, read.payload.file, read.bars.statuses) == ("poisson", None, ("OK",))


def test_everything_else_can_be_said(tmp_path: Path) -> None:
    more = """seed = 7
seconds = 5
warm_up_seconds = 0
timeout_seconds = 3
max_open = 9
[arrivals]
process = "burst"
burst_size = 4
[payload]
file = "turns.jsonl"
told_turns = 2
[server]
max_working_requests = 8
[bars]
statuses = ["OK", "RESOURCE_EXHAUSTED"]
retrieve = { p95_ms = 300, ok_share = 0.9 }
rss_mib = 500
"""
    read = read_scenario(write(tmp_path, LEAST + more), {"seconds": 60})
    assert (read.seed, read.seconds, read.max_open, read.arrivals.burst_size) == (7, 60, 9, 4)
    assert read.payload.file == tmp_path / "turns.jsonl"  # beside the scenario
    assert read.server == {"max_working_requests": 8}
    assert (read.bars.retrieve.p95_ms, read.bars.retrieve.ok_share, read.bars.write.p95_ms) == (300, 0.9, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("users = 3\n", "turns_per_second: Field required"),
        (LEAST + "user = 4\n", "user: Extra inputs are not permitted"),
        (LEAST.replace("2", "0").replace("1", "0"), "are both 0"),
        (LEAST + "seconds = 0\n", "seconds: Input should be greater than 0"),
        (
            LEAST + '[arrivals]\nprocess = "tides"\n',
            "arrivals.process: Input should be 'poisson', 'constant' or 'burst'",
        ),
        (LEAST + "[bars]\nretrieve = { p95 = 3 }\n", "bars.retrieve.p95: Extra inputs"),
        ("users = \n", "is not a TOML file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ScenarioError, match=said.split(":")[0]) as raised:
        read_scenario(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nothing\.toml: No such file"):
        read_scenario(tmp_path / "nothing.toml")


def test_a_plan_has_the_rates_in_order_and_every_users_calls_numbered() -> None:
    planned = plan(scenario(warm_up_seconds=10, arrivals={"process": "constant"}))
    assert [one.at for one in planned] == sorted(one.at for one in planned)
    assert Counter(one.kind for one in planned) == {"write": 800, "retrieve": 400}
    assert max(one.at for one in planned) < 40
    for kind in ("write", "retrieve"):
        for user in range(3):
            numbers = [one.number for one in planned if (one.kind, one.user) == (kind, user)]
            assert numbers == list(range(len(numbers)))
            assert numbers


def test_a_plan_is_that_of_its_seed_and_the_two_kinds_come_apart() -> None:
    assert plan(scenario()) == plan(scenario())
    assert plan(scenario()) != plan(scenario(seed=2))
    planned = plan(scenario(retrieves_per_second=20))
    moments = [[one.at for one in planned if one.kind == kind] for kind in ("write", "retrieve")]
    assert moments[0] != moments[1]


def test_bursts_are_bursts_in_the_plan() -> None:
    planned = plan(scenario(turns_per_second=0, arrivals={"process": "burst", "burst_size": 5}))
    assert set(Counter(one.at for one in planned).values()) == {5}
