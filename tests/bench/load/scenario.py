"""A scenario: who calls how often, with what, and what has to hold. One TOML file, checked by pydantic as settings are.

    seconds = 60              # counted, after warm_up_seconds
    users = 20
    turns_per_second = 4.0    # Writes, of all users together
    retrieves_per_second = 4.0

    [arrivals]
    process = "poisson"       # or "constant", or "burst": so many at one moment
    burst_size = 10

    [payload]
    file = "turns.jsonl"      # beside the scenario; left out: dialogues made from the seed
    told_turns = 50           # what each user has said before it begins

    [server]                  # settings of the server that the harness starts
    max_working_requests = 8

    [bars]
    statuses = ["OK"]         # those that may occur
    retrieve = { p95_ms = 300.0, ok_share = 0.999 }
    write = { p95_ms = 300.0 }
    rss_mib = 1024.0

Everything but `users` and the two rates has a default. Besides these: description, seed, timeout_seconds (of a call), max_open
(calls at once, beyond which the generator is full and says so). All calls share one connection, as gRPC has it.
"""

from __future__ import annotations

import heapq
import itertools
import random
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tests.bench.arrivals import BURST_SIZE, make_arrivals

Kind = Literal["retrieve", "write"]
KINDS: tuple[Kind, ...] = ("retrieve", "write")


class ScenarioError(ValueError):
    """A scenario or its payload that can't be read; says where and what."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Arrivals(_Table):
    """When calls come."""

    process: Literal["poisson", "constant", "burst"] = "poisson"
    burst_size: int = Field(BURST_SIZE, ge=1, le=10_000)


class Payload(_Table):
    """What is said and asked."""

    file: Path | None = None
    told_turns: int = Field(50, ge=1, le=100_000)


class CallBars(_Table):
    """What one kind of call must keep: so many ms at most, from when it was to be sent to the end of its answer, and at least
    such a share of answers among all calls."""

    p50_ms: float | None = Field(None, gt=0)
    p95_ms: float | None = Field(None, gt=0)
    p99_ms: float | None = Field(None, gt=0)
    max_ms: float | None = Field(None, gt=0)
    ok_share: float | None = Field(None, ge=0, le=1)


class Bars(_Table):
    """What a run must keep, besides: every refusal for overload says when to come back."""

    statuses: tuple[str, ...] = ("OK",)
    retrieve: CallBars = CallBars()
    write: CallBars = CallBars()
    rss_mib: float | None = Field(None, gt=0)


class Scenario(_Table):
    """See the module. `name` is the file's."""

    name: str
    description: str = ""
    seed: int = 1
    seconds: float = Field(60, gt=0, le=86_400)
    warm_up_seconds: float = Field(5, ge=0, le=3600)
    users: int = Field(ge=1, le=100_000)
    turns_per_second: float = Field(ge=0, le=100_000)
    retrieves_per_second: float = Field(ge=0, le=100_000)
    timeout_seconds: float = Field(10, gt=0, le=600)
    max_open: int = Field(2000, ge=1, le=100_000)
    arrivals: Arrivals = Arrivals()
    payload: Payload = Payload()
    server: dict[str, str | int | float | bool] = {}
    bars: Bars = Bars()

    @model_validator(mode="after")
    def _check_rates(self) -> Scenario:
        if not self.turns_per_second + self.retrieves_per_second:
            raise ValueError("turns_per_second and retrieves_per_second are both 0")
        return self

    def rate(self, kind: Kind) -> float:
        """Calls per second of a kind."""
        return self.retrieves_per_second if kind == "retrieve" else self.turns_per_second


def read_scenario(path: Path, changes: Mapping[str, object] | None = None) -> Scenario:
    """Read a scenario, with `changes` instead of what the file has at its top level. Raises ScenarioError."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ScenarioError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path} is not a TOML file: {error}") from error
    try:
        scenario = Scenario.model_validate({"name": path.stem, **values, **(changes or {})})
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc'])) or 'scenario'}: {one['msg']}" for one in error.errors())
        raise ScenarioError(f"{path}: {'; '.join(problems)}") from error
    if (file := scenario.payload.file) is None:
        return scenario
    payload = scenario.payload.model_copy(update={"file": path.parent / file})
    return scenario.model_copy(update={"payload": payload})


@dataclass(frozen=True, slots=True)
class Planned:
    """A call to be made.

    Attributes:
        at: When, in seconds from the begin of the warm-up.
        number: Of its user's calls of this kind, from 0.
    """

    at: float
    kind: Kind
    user: int
    number: int


def plan(scenario: Scenario) -> list[Planned]:
    """Every call of a run, in order: drawn from the seed beforehand, so that nothing depends on how fast answers come."""
    seconds = scenario.warm_up_seconds + scenario.seconds
    moments = {
        kind: make_arrivals(
            scenario.rate(kind),
            seconds,
            seed=scenario.seed * len(KINDS) + place,
            process=scenario.arrivals.process,
            burst_size=scenario.arrivals.burst_size,
        )
        for place, kind in enumerate(KINDS)
    }
    drawn = random.Random(scenario.seed)
    numbers = {(kind, user): itertools.count() for kind in KINDS for user in range(scenario.users)}
    planned = []
    for at, kind in heapq.merge(*([(at, kind) for at in moments[kind]] for kind in KINDS)):
        user = drawn.randrange(scenario.users)
        planned.append(Planned(at, kind, user, next(numbers[kind, user])))
    return planned
