"""What starts a consolidation: durably, in the commit that gave rise to it, and not too often."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lightmem_server.core import HEAT_HALF_LIFE, UNBOUNDED, TierPolicy
from lightmem_server.pipeline.archive import Archiving
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.run import JOB_KIND
from lightmem_server.pipeline.consolidation.triggers import Triggers
from lightmem_server.pipeline.write import WriteBatch, Writing
from lightmem_server.slm.fakes import HashEmbedder
from lightmem_server.store.protocol import ClaimedJob
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Turn
from tests.unit.pipeline.conftest import ANA, DIM, Pipeline

SECOND = 1_000_000
IDLE_SECONDS = 900
TRIGGERS = Triggers(IDLE_SECONDS, stm_turns=4, stm_tokens=1000)
START = 1_700_000_000 * SECOND
LATER = START + IDLE_SECONDS * SECOND


@dataclass
class Desk:
    """Writes at times that the test sets, and looks at the queue."""

    pipeline: Pipeline
    now: int = START
    triggers: Triggers = TRIGGERS

    def __post_init__(self) -> None:
        self.writing = Writing(
            self.pipeline.store,
            self.pipeline.residents,
            HashEmbedder(DIM),
            embedding="hash",
            clock=Clock(now=lambda: self.now),
            triggers=self.triggers,
        )

    @property
    def jobs(self) -> SqliteStore:
        assert isinstance(self.pipeline.store, SqliteStore)
        return self.pipeline.store

    async def write(self, *turns: Turn, request_id: str = "") -> None:
        batch = WriteBatch(ANA, turns, session_id="s", request_id=request_id)
        assert [ack async for ack in self.writing.write([batch])]

    async def claim(self, now: int) -> ClaimedJob | None:
        return await self.jobs.claim_job([JOB_KIND], owner="w", lease_micros=1, now=now)


@pytest.fixture
async def desk(pipeline: Pipeline) -> Desk:
    return Desk(pipeline)


async def test_a_session_that_falls_idle_is_consolidated_after_its_last_turn(desk: Desk) -> None:
    await desk.write(Turn("one"))
    desk.now += 60 * SECOND
    await desk.write(Turn("two"))
    assert await desk.claim(LATER) is None
    job = await desk.claim(LATER + 60 * SECOND)
    assert job is not None
    assert job.payload == "idle"


async def test_turns_that_leave_the_conversation_are_consolidated_however_it_goes_on(desk: Desk) -> None:
    await desk.write(*(Turn(str(number)) for number in range(4)))
    desk.now += 10 * SECOND
    await desk.write(Turn("fifth"))
    for _ in range(5):
        desk.now += 100 * SECOND
        await desk.write(Turn("more"))
    assert await desk.claim(LATER + 9 * SECOND) is None
    job = await desk.claim(LATER + 10 * SECOND)
    assert job is not None
    assert job.payload == "overflow"
    assert (await desk.jobs.stats("default")).pending_job_count == 2


async def test_long_turns_leave_the_conversation_too(pipeline: Pipeline) -> None:
    desk = Desk(pipeline, triggers=Triggers(IDLE_SECONDS, stm_turns=100, stm_tokens=5))
    await desk.write(Turn("one two three"))
    assert (await desk.jobs.stats("default")).pending_job_count == 1
    await desk.write(Turn("four five six"))
    assert (await desk.jobs.stats("default")).pending_job_count == 2


async def test_a_replay_starts_nothing(desk: Desk) -> None:
    await desk.write(Turn("one"), request_id="r")
    job = await desk.claim(LATER)
    assert job is not None
    await desk.jobs.finish_job(job.job_id, owner="w")
    await desk.write(Turn("one"), request_id="r")
    assert (await desk.jobs.stats("default")).pending_job_count == 0


async def test_archiving_starts_one_at_once(desk: Desk) -> None:
    policy = TierPolicy(
        half_life=HEAT_HALF_LIFE,
        capacity=[UNBOUNDED, UNBOUNDED, 5, UNBOUNDED],
        promote_heat=0.0,
        summarise_turns=1,
        stm_turns=1,
        stm_tokens=1,
    )
    await desk.pipeline.write(*(Turn(f"word{i}", occurred_at=i) for i in range(8)))
    clock = Clock(now=lambda: START)
    archiving = Archiving(desk.pipeline.store, desk.pipeline.residents, policy, clock, desk.triggers)
    assert await archiving.enforce(ANA)
    job = await desk.claim(START)
    assert job is not None
    assert job.payload == "capacity"


async def test_without_triggers_nothing_starts(desk: Desk) -> None:
    await desk.pipeline.write(*(Turn(str(number)) for number in range(9)))
    assert (await desk.jobs.stats("default")).pending_job_count == 0
