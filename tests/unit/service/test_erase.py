"""EraseUser through a whole server, with work of every kind under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lightmem_client import AsyncClient, Turn
from lightmem_client.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    LightMemError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)

from lightmem_server import errors
from tests.unit.service.test_consolidation import Gate, Running, start

SECRET = "Zanzibar-4711"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = await start(tmp_path / "data", "on", log_level="error")
    yield running
    await running.client.close()
    await running.server.stop()


def traces(folder: Path) -> list[str]:
    secret = SECRET.lower().encode()
    return sorted(str(file) for file in folder.rglob("*") if file.is_file() and secret in file.read_bytes().lower())


async def texts(running: Running, user_id: str = "ann") -> list[str]:
    return [memory.text async for memory in running.client.list(user_id=user_id)]


async def plant(running: Running, user_id: str = "ann") -> None:
    """The secret wherever a client can put one, and what is made of it."""
    turns = [
        Turn(f"{SECRET} is where I live, {number}.", speaker=SECRET, metadata={SECRET: SECRET}) for number in range(300)
    ]
    for number in range(0, len(turns), 100):
        await running.client.write(
            turns[number : number + 100],
            user_id=user_id,
            session_id=f"{SECRET} {number}",
            agent_id=SECRET,
            request_id=f"{SECRET} {number}",
        )
    async for memory in running.client.list(user_id=user_id, page_size=1):
        await running.client.update(memory.id, user_id=user_id, metadata={"word": f"{SECRET} changed"})
        break


async def test_nothing_of_an_erased_user_is_in_any_file_of_the_server(running: Running) -> None:
    async def fail(moment: str, text: str) -> None:
        if moment == "committed":
            raise errors.ModelError(f"choked on {text}")

    await plant(running)
    await plant(running, SECRET)
    await running.client.write(["I stay."], user_id="bob")
    running.consolidation.at = fail
    with pytest.raises(UnavailableError, match=SECRET):
        await running.consolidate()
    await running.client.retrieve(f"Who lives in {SECRET}?")
    before = (await running.client.stats(user_id="ann")).counts
    assert traces(running.data_dir), "nothing was planted"
    erased = await running.client.erase_user("ann")
    assert erased.memory_count == sum(count.active_count for count in before) == 301
    assert (erased.vector_count, erased.job_count, erased.withdrawn_support_count) == (300, 2, 0)
    assert erased.erased_at is not None
    again = await running.client.erase_user(SECRET)
    assert again.memory_count == 300
    assert traces(running.data_dir) == []
    assert await texts(running) == []
    assert (await running.client.retrieve("Who lives there?")).memories == ()
    assert await texts(running, "bob") == ["I stay."]
    third = await running.client.erase_user("ann")
    assert (third.memory_count, third.vector_count, third.job_count) == (0, 0, 0)
    assert len({erased.receipt_id, again.receipt_id, third.receipt_id}) == 3


async def test_who_comes_back_is_new(running: Running) -> None:
    await running.client.write(["I live in Porto."], session_id="s", request_id="r1")
    await running.client.erase_user("ann")
    with pytest.raises(AbortedError) as caught:
        await running.client.write(["I live in Porto."], session_id="s", request_id="r1")
    assert caught.value.reason == "USER_ERASED"
    (memory_id,) = (await running.client.write(["I live in Faro."], session_id="s", request_id="r2")).memory_ids
    assert (await running.client.get(memory_id)).previous_id == ""
    assert [turn.text for turn in await running.client.get_context("s")] == ["I live in Faro."]
    found = await running.client.retrieve("Where do I live?")
    assert [hit.memory.text for hit in found.memories] == ["I live in Faro."]
    await running.consolidate()
    assert await running.facts() == ["I LIVE IN FARO."]


@pytest.mark.parametrize("moment", ["write", "saved", "committed", "end"])
async def test_a_run_at_work_ends_cleanly_and_resurrects_nothing(running: Running, moment: str) -> None:
    gate = running.consolidation.at = Gate(moment)
    await running.client.write([f"I live in {SECRET}."])
    following = asyncio.create_task(running.consolidate())
    await gate.reached.wait()
    erased = await running.client.erase_user("ann")
    assert erased.job_count == 2, "the run's, and the one that waits for the user to rest"
    gate.opened.set()
    with pytest.raises(FailedPreconditionError) as caught:
        await following
    assert caught.value.reason == "RUN_CANCELLED"
    assert await texts(running) == []
    assert (await running.client.stats()).user_count == 0
    assert traces(running.data_dir) == []
    running.consolidation.at = Gate("never")
    await running.client.write(["I live in Faro."])
    await running.consolidate()
    assert await running.facts() == ["I LIVE IN FARO."]


async def test_a_job_that_waits_for_a_worker_ends_its_followers(running: Running) -> None:
    gate = running.consolidation.at = Gate("write")
    await running.client.write(["One."], user_id="bob")
    bob = asyncio.create_task(anext(aiter(running.client.consolidate(user_id="bob"))))
    await gate.reached.wait()
    await running.client.write(["I live in Porto."])
    moments = running.client.consolidate()
    assert (await anext(aiter(moments))).stage == "queue"
    rest = asyncio.create_task(_collect(moments))
    await running.client.erase_user("ann")
    with pytest.raises(FailedPreconditionError):
        await rest
    gate.opened.set()
    await bob


async def _collect(moments: AsyncIterator[object]) -> list[object]:
    return [moment async for moment in moments]


async def test_writers_beside_an_erasure_store_all_or_are_refused(running: Running) -> None:
    """Each acknowledged write is before the erasure, and gone, or after it, and there; those of others are there."""
    stop, wrote = asyncio.Event(), asyncio.Condition()
    acknowledged: dict[str, list[str]] = {"ann": [], "bob": []}
    refused: list[str] = []

    async def keep_writing(user_id: str, name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                written = await running.client.write([f"{name} {number}"], user_id=user_id, session_id=name)
            except AbortedError as error:
                refused.append(error.reason)
            else:
                acknowledged[user_id] += written.memory_ids
                async with wrote:
                    wrote.notify_all()

    writers = [
        asyncio.create_task(keep_writing(user_id, f"{user_id} {place}"))
        for user_id in acknowledged
        for place in range(4)
    ]
    for _ in range(5):
        marks = {user_id: len(ids) for user_id, ids in acknowledged.items()}
        async with wrote:
            await wrote.wait_for(lambda: all(len(acknowledged[user_id]) >= marks[user_id] + 8 for user_id in marks))  # noqa: B023
        await running.client.erase_user("ann")
    stop.set()
    await asyncio.gather(*writers)
    assert set(refused) <= {"USER_ERASED"}
    there = [memory.id async for memory in running.client.list(user_id="ann")]
    assert set(there) <= set(acknowledged["ann"])
    assert {memory.id async for memory in running.client.list(user_id="bob")} == set(acknowledged["bob"])
    await running.client.erase_user("ann")
    for memory_id in acknowledged["ann"][-3:]:
        with pytest.raises(NotFoundError):
            await running.client.get(memory_id, user_id="ann")


async def test_an_erasure_is_finished_when_its_caller_leaves(running: Running) -> None:
    await running.client.write([f"I live in {SECRET}."])
    with contextlib.suppress(LightMemError):
        await running.client.erase_user("ann", timeout_seconds=0.001)
    await running.client.erase_user("ann")
    assert traces(running.data_dir) == []


async def test_a_key_of_the_user_stays(running: Running) -> None:
    made = await running.client.create_key(user_ids=["ann"])
    await running.client.write(["I live in Porto."])
    await running.client.erase_user("ann")
    assert [key.user_ids async for key in running.client.list_keys() if key.key_id == made.key.key_id] == [("ann",)]


async def test_only_an_admin_erases_and_only_users(running: Running) -> None:
    made = await running.client.create_key(user_ids=["ann"], is_admin=False)
    async with AsyncClient(running.server.address, api_key=made.secret, user_id="ann") as agent:
        with pytest.raises(PermissionDeniedError):
            await agent.erase_user("ann")
    for user_id in ("", "*"):
        with pytest.raises(InvalidArgumentError, match=r"^user_id: "):
            await running.client.erase_user(user_id)
