import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.records import RECORD_BYTES, Records, size_of
from lightmem_server.types import Kind, Memory, Partition, Tier

ANA, BEN = Partition("n", "ana"), Partition("n", "ben")
LARGE = 1 << 20


def memory(number: int, text: str = "said") -> Memory:
    return Memory(uuid.UUID(int=number), Tier.MTM, Kind.TURN, text, 1, 1)


class Source:
    """A store's records, each read of which can be held up."""

    def __init__(self, *memories: Memory) -> None:
        self.there = {one.id: one for one in memories}
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_read = asyncio.Event()

    async def get(self, partition: Partition, ids: Sequence[uuid.UUID]) -> list[Memory | None]:
        self.asked.append([id_.int for id_ in ids])
        found = [self.there.get(id_) for id_ in ids]
        self.is_read.set()
        await self.gate.wait()
        return found


def ids(*numbers: int) -> list[uuid.UUID]:
    return [uuid.UUID(int=number) for number in numbers]


async def test_a_record_is_read_once() -> None:
    source = Source(memory(1), memory(2))
    records = Records(source, budget_bytes=LARGE)
    assert await records.get(ANA, ids(1, 2, 1)) == [memory(1), memory(2), memory(1)]
    assert await records.get(ANA, ids(2, 1)) == [memory(2), memory(1)]
    assert source.asked == [[1, 2]]


async def test_only_what_is_missing_is_read_again_and_what_is_not_there_each_time() -> None:
    source = Source(memory(1), memory(2))
    records = Records(source, budget_bytes=LARGE)
    await records.get(ANA, ids(1))
    assert await records.get(ANA, ids(1, 2, 3)) == [memory(1), memory(2), None]
    await records.get(ANA, ids(3))
    assert source.asked == [[1], [2, 3], [3]]


async def test_users_are_apart() -> None:
    source = Source(memory(1))
    records = Records(source, budget_bytes=LARGE)
    await records.get(ANA, ids(1))
    await records.get(BEN, ids(1))
    assert source.asked == [[1], [1]]


async def test_what_was_changed_is_read_again() -> None:
    source = Source(memory(1), memory(2))
    records = Records(source, budget_bytes=LARGE)
    await records.get(ANA, ids(1, 2))
    source.there[uuid.UUID(int=1)] = memory(1, "changed")
    records.drop(ANA, ids(1))
    assert await records.get(ANA, ids(1, 2)) == [memory(1, "changed"), memory(2)]
    assert source.asked[1:] == [[1]]


@pytest.mark.parametrize("how", ["drop", "forget", "touch"])
async def test_what_was_read_before_a_change_is_not_kept_after_it(how: str) -> None:
    source = Source(memory(1), memory(2))
    source.gate.clear()
    records = Records(source, budget_bytes=LARGE)
    reading = asyncio.create_task(records.get(ANA, ids(1, 2)))
    await source.is_read.wait()
    if how == "drop":
        records.drop(ANA, ids(1))
    elif how == "forget":
        records.forget(ANA)
    else:
        records.touch(ANA, ids(1), at=5)
    source.there[uuid.UUID(int=1)] = memory(1, "changed")
    source.gate.set()
    assert await reading == [memory(1), memory(2)]
    assert (await records.get(ANA, ids(1, 2)))[0] == memory(1, "changed")
    assert source.asked[1:] == [[1, 2] if how == "forget" else [1]]


async def test_an_access_is_counted_without_reading() -> None:
    source = Source(memory(1), replace(memory(2), access_count=4, last_accessed_at=9))
    records = Records(source, budget_bytes=LARGE)
    await records.get(ANA, ids(1, 2))
    records.touch(ANA, ids(1, 2, 3), at=5)
    first, second = await records.get(ANA, ids(1, 2))
    assert first == replace(memory(1), access_count=1, last_accessed_at=5)
    assert second == replace(memory(2), access_count=5, last_accessed_at=9), "the clock went back"
    assert source.asked == [[1, 2]]


async def test_users_read_longest_ago_leave_first() -> None:
    source = Source(memory(1))
    records = Records(source, budget_bytes=2 * size_of(memory(1)))
    carl = Partition("n", "carl")
    for partition in (ANA, BEN, ANA, carl, ANA, BEN):
        await records.get(partition, ids(1))
    assert len(source.asked) == 4, "Ana's and Ben's, Carl's in Ben's place, Ben's again"


async def test_of_one_user_as_much_as_has_room() -> None:
    source = Source(*(memory(number) for number in range(5)))
    records = Records(source, budget_bytes=3 * size_of(memory(1)))
    assert await records.get(ANA, ids(*range(5))) == [memory(number) for number in range(5)]
    assert await records.get(ANA, ids(2, 3, 4)) == [memory(2), memory(3), memory(4)]
    assert len(source.asked) == 1
    assert records.size_bytes == 3 * size_of(memory(1))


async def test_without_a_budget_nothing_is_kept() -> None:
    source = Source(memory(1))
    records = Records(source, budget_bytes=0)
    for _ in range(2):
        assert await records.get(ANA, ids(1)) == [memory(1)]
    assert len(source.asked) == 2
    assert records.size_bytes == 0


async def test_a_read_that_fails_or_is_cancelled_leaves_nothing() -> None:
    source = Source(memory(1))
    source.gate.clear()
    records = Records(source, budget_bytes=LARGE)
    reading = asyncio.create_task(records.get(ANA, ids(1)))
    await source.is_read.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not records._kept


async def test_users_of_whom_nothing_is_there_take_no_room() -> None:
    records = Records(Source(), budget_bytes=LARGE)
    for number in range(10):
        partition = Partition("n", str(number))
        await records.get(partition, ids(1))
        await records.get(partition, [])
        records.drop(partition, ids(1))
        records.touch(partition, ids(1), at=1)
        records.forget(partition)
    assert not records._kept


def test_a_records_size_counts_text_and_metadata() -> None:
    assert size_of(memory(1, "x" * 5000)) > 5000 + RECORD_BYTES
    assert size_of(replace(memory(1), metadata={"note": "y" * 700})) > size_of(memory(1)) + 700


@given(
    budget=st.integers(0, 12 * 1100),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["get", "change", "delete", "touch", "forget"]),
            st.sampled_from([ANA, BEN]),
            st.sets(st.integers(0, 9), min_size=1),
        ),
        max_size=40,
    ),
)
def test_whatever_happens_records_are_what_the_source_has(
    budget: int, steps: list[tuple[str, Partition, set[int]]]
) -> None:
    class Stored(Source):
        async def get(self, partition: Partition, ids: Sequence[uuid.UUID]) -> list[Memory | None]:
            return [self.there.get(uuid.UUID(int=id_.int + offsets[partition])) for id_ in ids]

    offsets = {ANA: 0, BEN: 100}
    source = Stored()
    records = Records(source, budget_bytes=budget)

    async def run() -> None:
        for at, (step, partition, numbers) in enumerate(steps, start=1):
            own = [uuid.UUID(int=number + offsets[partition]) for number in sorted(numbers)]
            shown = ids(*sorted(numbers))
            if step == "get":
                assert await records.get(partition, shown) == [source.there.get(id_) for id_ in own]
            elif step == "forget":
                records.forget(partition)
            elif step == "touch":
                for id_ in own:
                    if one := source.there.get(id_):
                        source.there[id_] = replace(one, access_count=one.access_count + 1, last_accessed_at=at)
                records.touch(partition, shown, at)
            else:
                for id_, number in zip(own, sorted(numbers), strict=True):
                    source.there[id_] = memory(number, f"text {at}")
                    if step == "delete":
                        del source.there[id_]
                records.drop(partition, shown)
            assert records.size_bytes <= budget
            assert records.size_bytes == sum(
                size_of(one) for kept in records._kept.values() for one in kept.records.values()
            )

    asyncio.run(run())
