"""The calls of consolidation through a whole server with a small consolidator, and through the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from lightmem_client import AsyncClient, ConsolidationProgress, Kind, MemoryFilter, Turn
from lightmem_client.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)

from lightmem_server import errors
from lightmem_server.config import load
from lightmem_server.server import LightMemServer, Models
from lightmem_server.slm.fakes import OverlapSelector
from lightmem_server.store.protocol import Store
from tests.live_server import FakeModels
from tests.unit.pipeline.consolidation.echo import EchoConsolidator, nothing

ENDED_SECONDS = 30
"""A guard against hanging, not a measurement."""


class Consolidation:
    """What the server's consolidator does at each moment; tests set it."""

    def __init__(self) -> None:
        self.at: Callable[[str, str], Awaitable[None]] = nothing

    def make(self, store: Store, models: Models) -> EchoConsolidator:
        async def at(moment: str, text: str) -> None:
            await self.at(moment, text)

        return EchoConsolidator(store, at)


@dataclass
class Running:
    """A server, its consolidation, and an admin's client."""

    server: LightMemServer
    consolidation: Consolidation
    client: AsyncClient
    data_dir: Path

    async def consolidate(self) -> list[ConsolidationProgress]:
        return [moment async for moment in self.client.consolidate(timeout_seconds=ENDED_SECONDS)]

    async def facts(self) -> list[str]:
        found = [memory async for memory in self.client.list(filter=MemoryFilter(include_archived=True))]
        return [memory.text for memory in reversed(found) if memory.kind.name == "FACT"]


async def start(data_dir: Path, consolidation: str, **flags: object) -> Running:
    work = Consolidation()
    fixed = {"data_dir": data_dir, "listen": "127.0.0.1:0", "consolidation": consolidation, "drain_seconds": 5}
    settings = load({**fixed, **flags}, environment={})
    make = work.make if consolidation == "on" else None
    server = LightMemServer(settings, lambda _: FakeModels(), make_consolidator=make)
    await server.start()
    key = (data_dir / "admin.key").read_text().strip()
    return Running(server, work, AsyncClient(server.address, api_key=key, user_id="ann"), data_dir)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = await start(tmp_path / "data", "on")
    yield running
    await running.client.close()
    await running.server.stop()


class Gate:
    """Holds the consolidator at one moment."""

    def __init__(self, moment: str) -> None:
        self._moment = moment
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, moment: str, text: str) -> None:
        if moment == self._moment:
            self.reached.set()
            await self.opened.wait()


async def test_consolidate_streams_to_the_end_and_what_it_made_is_found(running: Running) -> None:
    await running.client.write(["I moved to Porto.", "It rains a lot."])
    moments = await running.consolidate()
    assert (moments[0].stage, moments[-1].stage) == ("queue", "done")
    assert (moments[-1].kept_count, moments[-1].rejected) == (2, {"question": 1})
    assert moments[-1].run_id
    assert await running.facts() == ["I MOVED TO PORTO.", "IT RAINS A LOT."]
    found = await running.client.retrieve("moved Porto", filter=MemoryFilter(kinds=(Kind.FACT,)))
    assert "I MOVED TO PORTO." in {hit.memory.text for hit in found.memories}
    stats = await running.client.stats()
    assert stats.dead_jobs == ()


class Refusing(OverlapSelector):
    """Finds that nothing says what it is asked about."""

    async def judge(self, query: str, passages: Sequence[str], *, deadline: float | None = None) -> list[float | None]:
        return [-9.0 for _ in passages]


@pytest.mark.parametrize(
    ("models", "kept"),
    [
        pytest.param(FakeModels(gate=Refusing()), [], id="gate"),
        pytest.param(FakeModels(selector=Refusing()), ["Ann lives in Porto"], id="selector"),
    ],
)
async def test_what_is_proposed_is_for_the_gates_selector_to_judge(
    tmp_path: Path, models: FakeModels, kept: list[str]
) -> None:
    server = LightMemServer(load({"data_dir": tmp_path, "listen": "127.0.0.1:0"}, environment={}), lambda _: models)
    await server.start()
    key = (tmp_path / "admin.key").read_text().strip()
    running = Running(server, Consolidation(), AsyncClient(server.address, api_key=key, user_id="ann"), tmp_path)
    await running.client.write(Turn("I live in Porto.", speaker="Ann"))
    moments = await running.consolidate()
    assert (await running.facts(), moments[-1].kept_count) == (kept, len(kept))
    assert moments[-1].rejected == ({} if kept else {"inconsistent": 1})
    await running.client.close()
    await server.stop()


async def test_nothing_new_and_an_unknown_user_end_at_once(running: Running) -> None:
    await running.client.write("I moved to Porto.")
    await running.consolidate()
    assert [moment.run_id for moment in await running.consolidate()][-1] == ""
    unknown = [moment async for moment in running.client.consolidate(user_id="nobody")]
    assert [moment.stage for moment in unknown] == ["done"]
    assert (await running.client.stats()).user_count == 1


async def test_a_second_call_follows_and_leaving_stops_nothing(running: Running) -> None:
    gate = running.consolidation.at = Gate("write")
    await running.client.write("I moved to Porto.")
    first = aiter(running.client.consolidate())
    await anext(first)
    await gate.reached.wait()
    second = asyncio.create_task(running.consolidate())
    follower = aiter(running.client.consolidate())
    assert (await anext(follower)).stage == "select"
    await first.aclose()  # type: ignore[attr-defined]  # it is a generator
    gate.opened.set()
    assert (await second)[-1].stage == "done"
    assert [moment.stage async for moment in follower][-1] == "done"
    assert await running.facts() == ["I MOVED TO PORTO."]


async def test_history_names_the_run_and_undo_takes_it_back(running: Running) -> None:
    (turn_id,) = (await running.client.write("I moved to Porto.")).memory_ids
    run_id = (await running.consolidate())[-1].run_id
    (fact,) = [memory async for memory in running.client.list() if memory.kind.name == "FACT"]
    (version,) = await running.client.history(fact.id)
    assert (version.memory.text, version.cause) == (fact.text, run_id)
    assert version.explanation == "It was abstracted from its evidence."
    (written,) = await running.client.history(turn_id)
    assert (written.cause, written.memory.text) == ("write", "I moved to Porto.")
    for _ in range(2):
        undone = await running.client.undo_consolidation(run_id)
        assert (undone.restored_count, undone.removed_count) == (0, 1)
    assert await running.facts() == []
    for user_id, memory_id in (("ann", fact.id), ("bob", turn_id), ("ann", turn_id[:-4] + "0000")):
        with pytest.raises(NotFoundError) as caught:
            await running.client.history(memory_id, user_id=user_id)
        assert caught.value.message == "no such memory"
    for unknown in ("r1", turn_id):
        with pytest.raises(NotFoundError):
            await running.client.undo_consolidation(unknown)


async def test_an_edit_is_in_the_way_of_undo(running: Running) -> None:
    await running.client.write("I moved to Porto.")
    run_id = (await running.consolidate())[-1].run_id
    (fact,) = [memory async for memory in running.client.list() if memory.kind.name == "FACT"]
    await running.client.update(fact.id, is_pinned=True)
    with pytest.raises(FailedPreconditionError) as caught:
        await running.client.undo_consolidation(run_id)
    assert caught.value.reason == "EDITED"


async def test_cancelling_ends_the_run_for_its_followers(running: Running) -> None:
    gate = running.consolidation.at = Gate("write")
    await running.client.write("I moved to Porto.")
    following = asyncio.create_task(running.consolidate())
    await gate.reached.wait()
    cancelled = await running.client.cancel_consolidation()
    assert cancelled.run_id
    with pytest.raises(FailedPreconditionError) as caught:
        await following
    assert caught.value.reason == "RUN_CANCELLED"
    again = await running.client.cancel_consolidation()
    assert again.run_id == ""
    assert await running.facts() == []


async def test_a_failed_run_tells_its_followers_why(running: Running) -> None:
    async def fail(moment: str, text: str) -> None:
        raise errors.NotFoundError("the evidence is gone")

    running.consolidation.at = fail
    await running.client.write("I moved to Porto.")
    with pytest.raises(UnavailableError, match="the evidence is gone") as caught:
        await running.consolidate()
    assert caught.value.reason == "RUN_FAILED"
    running.consolidation.at = nothing
    assert (await running.consolidate())[-1].stage == "done"  # asking for it does not wait for the backoff


async def test_a_draining_server_ends_the_following_and_the_next_one_finishes_the_run(tmp_path: Path) -> None:
    running = await start(tmp_path / "data", "on")
    gate = running.consolidation.at = Gate("write")
    await running.client.write("I moved to Porto.")
    following = asyncio.create_task(running.consolidate())
    await gate.reached.wait()
    await running.server.stop()
    with pytest.raises(UnavailableError):
        await following
    await running.client.close()
    running = await start(tmp_path / "data", "on")
    ended_at = time.monotonic() + ENDED_SECONDS
    while not await running.facts():
        assert time.monotonic() < ended_at, "the run was not gone on with"
    await running.client.close()
    await running.server.stop()


async def test_off_refuses_to_start_and_lets_the_rest_work(tmp_path: Path) -> None:
    running = await start(tmp_path / "data", "off")
    await running.client.write("I moved to Porto.")
    with pytest.raises(FailedPreconditionError) as caught:
        await running.consolidate()
    assert caught.value.reason == "CONSOLIDATION_OFF"
    assert (await running.client.cancel_consolidation()).job_count == 0
    assert (await running.client.stats()).pending_job_count == 0
    await running.client.close()
    await running.server.stop()


async def test_the_schedule_reaches_whoever_has_news(tmp_path: Path) -> None:
    running = await start(tmp_path / "data", "off")
    await running.client.write("I moved to Porto.")
    await running.client.close()
    await running.server.stop()
    running = await start(tmp_path / "data", "on", consolidation_schedule_hours=24)
    ended_at = time.monotonic() + ENDED_SECONDS
    while not await running.facts():
        assert time.monotonic() < ended_at, "the schedule did nothing"
    await running.client.close()
    await running.server.stop()


async def test_only_admins_may(running: Running) -> None:
    created = await running.client.create_key(user_ids=["ann"])
    async with AsyncClient(running.server.address, api_key=created.secret, user_id="ann") as agent:
        (memory_id,) = (await agent.write("I moved to Porto.")).memory_ids
        assert await agent.history(memory_id)
        for call in (
            agent.cancel_consolidation(),
            agent.undo_consolidation(memory_id),
            anext(aiter(agent.consolidate())),
        ):
            with pytest.raises(PermissionDeniedError):
                await call
        with pytest.raises(PermissionDeniedError):
            await agent.history(memory_id, user_id="bob")


async def test_a_run_has_to_be_named(running: Running) -> None:
    with pytest.raises(InvalidArgumentError, match="run_id: is required"):
        await running.client.undo_consolidation("")


async def test_the_reserved_user_is_refused_by_the_fields_own_name(running: Running) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^user_id: "):
        _ = [moment async for moment in running.client.consolidate(user_id="*")]
