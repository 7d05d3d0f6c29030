import asyncio

import pytest

from lightmem_server.errors import RequestReusedError
from lightmem_server.pipeline.write import WriteBatch, digest
from lightmem_server.types import Partition, Turn
from tests.unit.pipeline.conftest import ANA, Pipeline


async def test_turns_know_the_turn_before_them_across_requests_and_sessions(pipeline: Pipeline) -> None:
    first, second = (await pipeline.write(Turn("one"), Turn("two"))).memory_ids
    (elsewhere,) = (await pipeline.write(Turn("other"), session_id="t")).memory_ids
    (third,) = (await pipeline.write(Turn("three"))).memory_ids
    memories = await pipeline.store.get(ANA, [first, second, elsewhere, third])
    assert [memory.previous_id if memory else None for memory in memories] == [None, first, None, second]


async def test_a_turn_without_a_time_was_said_when_it_came(pipeline: Pipeline) -> None:
    (id_,) = (await pipeline.write(Turn("now"))).memory_ids
    (memory,) = await pipeline.store.get(ANA, [id_])
    assert memory is not None
    assert memory.occurred_at == memory.created_at > 0


async def test_a_replay_gives_the_first_ids_and_stores_nothing(pipeline: Pipeline) -> None:
    first = await pipeline.write(Turn("once"), request_id="r")
    again = await pipeline.write(Turn("once"), request_id="r")
    assert (again.memory_ids, again.is_replay) == (first.memory_ids, True)
    (after,) = (await pipeline.write(Turn("after"))).memory_ids
    (memory,) = await pipeline.store.get(ANA, [after])
    assert memory is not None
    assert memory.previous_id == first.memory_ids[0]


async def test_batches_after_one_that_is_refused_are_not_stored(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("taken"), request_id="r")
    batches = [
        WriteBatch(ANA, [Turn("good")], request_id="a"),
        WriteBatch(ANA, [Turn("other content")], request_id="r"),
        WriteBatch(ANA, [Turn("behind it")], request_id="b"),
    ]
    acks = []
    with pytest.raises(RequestReusedError):  # noqa: PT012
        async for ack in pipeline.writing.write(batches):
            acks.append(ack.request_id)  # noqa: PERF401  # a comprehension would lose those before the error
    assert acks == ["a"]
    assert set(await pipeline.texts("good taken behind other")) == {"good", "taken"}


async def test_what_was_acknowledged_is_found_at_once(pipeline: Pipeline) -> None:
    for i in range(20):
        await pipeline.write(Turn(f"number{i} is here"))
        assert (await pipeline.texts(f"number{i}"))[0] == f"number{i} is here"


async def test_concurrent_writers_of_one_session_make_one_chain(pipeline: Pipeline) -> None:
    await asyncio.gather(*(pipeline.write(Turn(f"turn {i}"), Turn(f"then {i}")) for i in range(10)))
    changes = await pipeline.store.changes_since(ANA, None)
    chain = [row.memory.previous_id for row in changes.rows]
    assert chain == [None, *(row.memory.id for row in changes.rows[:-1])]


def test_the_digest_tells_requests_apart_and_retries_not() -> None:
    batch = WriteBatch(ANA, [Turn("x", metadata={"a": 1})])
    assert digest(batch) == digest(WriteBatch(ANA, [Turn("x", metadata={"a": 1})], request_id="any"))
    others = [
        WriteBatch(ANA, [Turn("y", metadata={"a": 1})]),
        WriteBatch(ANA, [Turn("x", metadata={"a": True})]),
        WriteBatch(ANA, [Turn("x", metadata={"a": 1})], session_id="s"),
        WriteBatch(ANA, [Turn("x", metadata={"a": 1}, occurred_at=1)]),
    ]
    assert len({digest(other) for other in [batch, *others]}) == 5


async def test_users_do_not_share_a_chain(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("ana's"))
    (id_,) = (await pipeline.write(Turn("ben's"), partition=Partition("default", "ben"))).memory_ids
    (memory,) = await pipeline.store.get(Partition("default", "ben"), [id_])
    assert memory is not None
    assert memory.previous_id is None
