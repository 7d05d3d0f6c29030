"""What every store keeps, whichever engine is under it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import numpy as np
import pytest

from lightmem_server.errors import (
    InvalidInputError,
    NotFoundError,
    RequestReusedError,
    StoreError,
    VersionMismatchError,
)
from lightmem_server.store.protocol import (
    MAX_GET,
    Change,
    CommitResult,
    JobRecord,
    KeyRecord,
    Store,
)
from lightmem_server.types import (
    AllOf,
    AnyOf,
    Condition,
    Kind,
    Memory,
    MemoryFilter,
    Not,
    Operator,
    Partition,
    State,
    Tier,
)
from tests.contract.store_records import (
    MODEL,
    USER,
    MakeStore,
    make_change,
    make_full_memory,
    make_id,
    make_memory,
    make_vector,
)


async def list_all(
    store: Store, partition: Partition = USER, record_filter: MemoryFilter | None = None
) -> list[Memory]:
    record_filter = record_filter or MemoryFilter(include_archived=True)
    page = await store.list_page(partition, record_filter, limit=1000, before_order=None, now=0)
    assert page.next_order is None
    return list(page.memories)


# Commits


async def test_record_comes_back_as_it_was_put(store: Store) -> None:
    memory = make_full_memory()
    await store.commit(make_change([memory]))
    (stored,) = await store.get(USER, [memory.id])
    assert stored == memory
    assert stored is not None
    assert [type(stored.metadata[key]) for key in memory.metadata] == [
        type(value) for value in memory.metadata.values()
    ]


async def test_vectors_come_back_bit_for_bit(store: Store) -> None:
    memory = make_memory()
    values = np.array([[0.0, -0.0, 1e-45, 3.4e38]], np.float32)
    vector = replace(make_vector(memory), vectors=values)
    await store.commit(Change(USER, puts=[memory], vectors=[vector]))
    changes = await store.changes_since(USER, None)
    stored = changes.rows[0].vector
    assert stored is not None
    assert (stored.memory_id, stored.model) == (memory.id, MODEL)
    assert stored.vectors.dtype == np.float32
    assert stored.vectors.shape == values.shape
    assert stored.vectors.tobytes() == values.tobytes()


async def test_versions_count_concurrent_commits_without_gaps(store: Store) -> None:
    partitions = [Partition("default", name) for name in ("a", "b", "c")]
    results = await asyncio.gather(*(store.commit(make_change([make_memory()], partition=p)) for p in partitions * 40))
    for position, partition in enumerate(partitions):
        own = [result.version for result in results[position::3]]
        assert sorted(own) == list(range(1, 41))
        assert (await store.changes_since(partition, None)).version == 40


async def test_commit_of_nothing_is_a_commit(store: Store) -> None:
    assert await store.commit(Change(USER)) == CommitResult(1, is_replay=False, request_result=b"")


async def test_orders_follow_the_commits_and_survive_changes(store: Store) -> None:
    first = [make_memory(f"{i}") for i in range(3)]
    second = make_memory("late")
    await store.commit(make_change(first))
    await store.commit(make_change([second]))
    await store.commit(make_change([replace(first[1], text="changed", version=2)]))
    rows = (await store.changes_since(USER, None)).rows
    assert [row.order for row in rows] == [1 << 16, (1 << 16) + 1, (1 << 16) + 2, 2 << 16]
    assert [row.memory.text for row in rows] == ["0", "changed", "2", "late"]


async def test_failed_commit_leaves_nothing_and_others_of_the_group_succeed(store: Store) -> None:
    good = [make_memory(f"good {i}") for i in range(40)]
    bad = [make_memory(f"bad {i}") for i in range(40)]
    changes: list[Change] = []
    for kept, lost in zip(good, bad, strict=True):
        changes.append(make_change([kept]))
        changes.append(make_change([lost], deletes=[make_id()], request_id=lost.text, jobs=[JobRecord("k", lost.text)]))
    results = await asyncio.gather(*(store.commit(change) for change in changes), return_exceptions=True)
    assert [type(result) for result in results] == [CommitResult, NotFoundError] * 40
    assert {memory.text for memory in await list_all(store)} == {memory.text for memory in good}
    assert (await store.changes_since(USER, None)).version == 40
    assert (await store.stats("default")).pending_job_count == 0
    assert await store.find_request(USER, "bad 0", b"") is None


async def test_failed_first_commit_does_not_make_the_partition(store: Store) -> None:
    with pytest.raises(NotFoundError):
        await store.commit(make_change([make_memory()], deletes=[make_id()]))
    assert (await store.changes_since(USER, None)).version == 0
    assert (await store.stats("default")).user_count == 0


async def test_reads_see_each_commit_that_returned(store: Store) -> None:
    async def write_and_read(number: int) -> None:
        partition = Partition("default", str(number % 3))
        memory = make_memory()
        result = await store.commit(make_change([memory], partition=partition))
        changes = await store.changes_since(partition, result.version - 1)
        assert memory.id in {row.memory.id for row in changes.rows}
        assert (await store.get(partition, [memory.id]))[0] == memory

    await asyncio.gather(*(write_and_read(number) for number in range(60)))


async def test_a_cancelled_caller_breaks_nothing(store: Store) -> None:
    tasks = [asyncio.create_task(store.commit(make_change([make_memory(str(i))]))) for i in range(60)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, CommitResult) for result in results[1::2])
    texts = {memory.text for memory in await list_all(store)}
    assert {str(i) for i in range(1, 60, 2)} <= texts
    assert (await store.changes_since(USER, None)).version == len(texts)


# Requests


async def test_replay_returns_the_first_result_and_changes_nothing(store: Store) -> None:
    first = make_change([make_memory()], request_id="r", request_digest=b"d", request_result=b"first")
    assert await store.commit(first) == CommitResult(1, is_replay=False, request_result=b"first")
    await store.commit(make_change([make_memory()]))
    again = make_change([make_memory()], request_id="r", request_digest=b"d", request_result=b"second")
    expected = CommitResult(2, is_replay=True, request_result=b"first")
    assert await store.commit(again) == expected
    assert await store.find_request(USER, "r", b"d") == expected
    assert len(await list_all(store)) == 2


async def test_concurrent_replays_store_once(store: Store) -> None:
    changes = [
        make_change([make_memory()], request_id="r", request_digest=b"d", request_result=str(i).encode())
        for i in range(20)
    ]
    results = await asyncio.gather(*(store.commit(change) for change in changes))
    assert sum(not result.is_replay for result in results) == 1
    assert len({result.request_result for result in results}) == 1
    assert len(await list_all(store)) == 1


async def test_replay_with_other_content_is_refused(store: Store) -> None:
    await store.commit(make_change(request_id="r", request_digest=b"d"))
    with pytest.raises(RequestReusedError):
        await store.commit(make_change([make_memory()], request_id="r", request_digest=b"other"))
    with pytest.raises(RequestReusedError):
        await store.find_request(USER, "r", b"other")
    assert await list_all(store) == []


async def test_request_ids_are_each_users_own(store: Store) -> None:
    other = Partition("default", "bob")
    await store.commit(make_change(partition=other))
    await store.commit(make_change(request_id="r", request_digest=b"d", request_result=b"ada"))
    assert await store.find_request(other, "r", b"e") is None
    result = await store.commit(make_change(partition=other, request_id="r", request_digest=b"e"))
    assert not result.is_replay


async def test_unknown_request_is_none(store: Store) -> None:
    assert await store.find_request(USER, "r", b"") is None
    await store.commit(Change(USER))
    assert await store.find_request(USER, "r", b"") is None


# Updates


async def test_update_replaces_the_record_and_keeps_its_vectors(store: Store) -> None:
    memory = make_memory(metadata={"a": 1})
    vector = make_vector(memory)
    await store.commit(Change(USER, puts=[memory], vectors=[vector]))
    changed = replace(memory, metadata={"b": "x"}, is_pinned=True, state=State.ARCHIVED, version=2)
    await store.commit(Change(USER, puts=[changed]))
    changes = await store.changes_since(USER, 1)
    assert [row.memory for row in changes.rows] == [changed]
    stored = changes.rows[0].vector
    assert stored is not None
    assert np.array_equal(stored.vectors, vector.vectors)


async def test_update_with_vectors_replaces_them(store: Store) -> None:
    memory = make_memory()
    await store.commit(make_change([memory]))
    vector = make_vector(memory, seed=7, model="other")
    await store.commit(Change(USER, puts=[replace(memory, version=2)], vectors=[vector]))
    stored = (await store.changes_since(USER, None)).rows[0].vector
    assert stored is not None
    assert stored.model == "other"
    assert np.array_equal(stored.vectors, vector.vectors)
    assert await store.embedding_models() == {"other": 1}


async def test_vectors_alone_reach_replicas_and_leave_the_record_version(store: Store) -> None:
    memory = make_memory()
    await store.commit(make_change([memory]))
    await store.commit(Change(USER, vectors=[make_vector(memory, seed=7, model="other")]))
    (row,) = (await store.changes_since(USER, 1)).rows
    assert row.memory == memory
    assert row.vector is not None
    assert row.vector.model == "other"


@pytest.mark.parametrize("version", [1, 2, 4], ids=lambda version: f"to {version}")
async def test_update_of_another_version_is_refused(store: Store, version: int) -> None:
    memory = make_memory()
    await store.commit(make_change([memory]))
    await store.commit(make_change([replace(memory, version=2)]))
    with pytest.raises(VersionMismatchError):
        await store.commit(make_change([replace(memory, text="lost", version=version)]))
    assert (await store.get(USER, [memory.id]))[0] == replace(memory, version=2)


async def test_one_of_concurrent_updates_wins(store: Store) -> None:
    memory = make_memory()
    await store.commit(make_change([memory]))
    updates = [replace(memory, text=str(i), version=2) for i in range(10)]
    results = await asyncio.gather(*(store.commit(make_change([m])) for m in updates), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["CommitResult"] + ["VersionMismatchError"] * 9
    assert (await store.changes_since(USER, None)).version == 2


@pytest.mark.parametrize(
    "change",
    [
        Change(USER, puts=[make_memory(version=2)]),
        Change(USER, deletes=[make_id()]),
        Change(USER, vectors=[make_vector(make_memory())]),
    ],
    ids=["update", "delete", "vector"],
)
async def test_change_of_an_unknown_record_is_refused(store: Store, change: Change) -> None:
    await store.commit(make_change([make_memory()]))
    with pytest.raises(NotFoundError):
        await store.commit(change)


async def test_too_many_records_in_one_commit_are_refused(store: Store) -> None:
    memory = make_memory()
    with pytest.raises(InvalidInputError):
        await store.commit(Change(USER, puts=[memory] * (2**16 + 1)))


# Deletions


async def test_deleted_record_is_nowhere(store: Store) -> None:
    memory, kept = make_memory(), make_memory("kept")
    await store.commit(make_change([memory, kept]))
    await store.record_access(USER, [memory.id], 5)
    await store.commit(Change(USER, deletes=[memory.id]))
    assert await store.get(USER, [memory.id, kept.id]) == [None, kept]
    assert await list_all(store) == [kept]
    assert await store.embedding_models() == {MODEL: 1}
    assert (await store.stats("default")).counts == {(Tier.MTM, Kind.TURN): (1, 0)}
    with pytest.raises(NotFoundError):
        await store.commit(Change(USER, deletes=[memory.id]))


async def test_deleted_id_does_not_come_back(store: Store) -> None:
    memory = make_memory()
    await store.commit(make_change([memory]))
    await store.commit(Change(USER, deletes=[memory.id]))
    for version in (1, 2):
        with pytest.raises(NotFoundError):
            await store.commit(make_change([replace(memory, version=version)]))
    assert await list_all(store) == []


async def test_replicas_learn_of_deletions(store: Store) -> None:
    memories = [make_memory(str(i)) for i in range(3)]
    await store.commit(make_change(memories))
    await store.commit(Change(USER, deletes=[memories[0].id]))
    await store.commit(make_change([replace(memories[2], version=2)], deletes=[memories[1].id]))
    changes = await store.changes_since(USER, 1)
    assert not changes.is_full
    assert [row.memory.text for row in changes.rows] == ["2"]
    assert set(changes.removed_ids) == {memories[0].id, memories[1].id}
    assert list((await store.changes_since(USER, 2)).removed_ids) == [memories[1].id]
    assert (await store.changes_since(USER, None)).removed_ids == ()


# Replicas


async def test_nothing_new_is_nothing(store: Store) -> None:
    await store.commit(make_change([make_memory()]))
    changes = await store.changes_since(USER, 1)
    assert (changes.version, changes.is_full, list(changes.rows), list(changes.removed_ids)) == (1, False, [], [])


async def test_unknown_partition_is_empty_at_version_zero(store: Store) -> None:
    for version, is_full in ((None, True), (0, False), (7, True)):
        changes = await store.changes_since(USER, version)
        assert (changes.version, changes.is_full, list(changes.rows)) == (0, is_full, [])


async def test_replica_ahead_of_the_store_reloads(store: Store) -> None:
    await store.commit(make_change([make_memory()]))
    changes = await store.changes_since(USER, 2)
    assert (changes.version, changes.is_full, len(changes.rows)) == (1, True, 1)


async def test_replica_older_than_the_purge_floor_reloads(store: Store) -> None:
    memories = [make_memory(str(i)) for i in range(3)]
    await store.commit(make_change(memories))
    await store.commit(Change(USER, deletes=[memories[0].id]))
    await store.commit(Change(USER, deletes=[memories[1].id]))
    assert await store.purge_tombstones(USER, 2) == 1
    old = await store.changes_since(USER, 1)
    assert (old.version, old.is_full, [row.memory.text for row in old.rows]) == (3, True, ["2"])
    young = await store.changes_since(USER, 2)
    assert (young.is_full, list(young.removed_ids)) == (False, [memories[1].id])


async def test_purge_floor_never_falls_nor_passes_the_version(store: Store) -> None:
    memory = make_memory()
    await store.commit(make_change([memory]))
    await store.commit(Change(USER, deletes=[memory.id]))
    assert await store.purge_tombstones(USER, 100) == 1
    assert await store.purge_tombstones(USER, 1) == 0
    assert await store.purge_tombstones(Partition("default", "nobody"), 1) == 0
    assert (await store.changes_since(USER, 1)).is_full
    await store.commit(make_change([make_memory()]))
    assert not (await store.changes_since(USER, 2)).is_full


async def test_replica_gets_what_is_newer_and_nothing_else(store: Store) -> None:
    memories = [make_memory(str(i)) for i in range(4)]
    for memory in memories:
        await store.commit(make_change([memory]))
    await store.commit(make_change([replace(memories[0], version=2)]))
    changes = await store.changes_since(USER, 3)
    assert (changes.version, changes.is_full) == (5, False)
    assert [row.memory.text for row in changes.rows] == ["0", "3"]


# Isolation

NASTY_PARTITIONS = [
    Partition(namespace, user_id)
    for namespace, user_id in [
        ("default", "ada"),
        ("default", "ada2"),
        ("default", "ad"),
        ("default", "ADA"),
        ("default", "ada "),
        ("default", "%"),
        ("default", "a_a"),
        ("default", "*"),
        ("defaul", "tada"),
        ("defaulta", "da"),
        ("default/ada", "x"),
        ("default", "ada/x"),
        ("default", "'; DROP TABLE memory; --"),
        ("default", '"ada"'),
        ("default", "é"),
        ("default", "e\u0301"),
        ("default", "1"),
        ("default", "01"),
        ("1", "1.0"),
        ("default", "\U0001f600" * 64),
    ]
]


async def test_partitions_see_nothing_of_each_other(store: Store) -> None:
    shared_id = make_id()
    for number, partition in enumerate(NASTY_PARTITIONS):
        memory = make_memory(f"secret {number}", id=shared_id)
        await store.commit(make_change([memory], partition=partition))
    for number, partition in enumerate(NASTY_PARTITIONS):
        (stored,) = await store.get(partition, [shared_id])
        assert stored is not None
        assert stored.text == f"secret {number}"
        assert [memory.text for memory in await list_all(store, partition)] == [stored.text]
        changes = await store.changes_since(partition, None)
        assert (changes.version, [row.memory.text for row in changes.rows]) == (1, [stored.text])


async def test_changes_reach_their_partition_alone(store: Store) -> None:
    memory = make_memory()
    first, second = NASTY_PARTITIONS[0], NASTY_PARTITIONS[1]
    await store.commit(make_change([memory], partition=first))
    await store.commit(make_change([memory], partition=second))
    await store.record_access(first, [memory.id], 5)
    await store.commit(Change(first, puts=[replace(memory, text="changed", version=2)]))
    await store.commit(Change(first, deletes=[memory.id]))
    assert await store.get(second, [memory.id]) == [memory]
    assert (await store.changes_since(second, 0)).removed_ids == []
    with pytest.raises(NotFoundError):
        await store.commit(Change(Partition("default", "other"), deletes=[memory.id]))


# Reading


async def test_get_keeps_the_order_asked_for(store: Store) -> None:
    first, second = make_memory("1"), make_memory("2", state=State.ARCHIVED)
    await store.commit(make_change([first, second]))
    assert await store.get(USER, [second.id, make_id(), first.id, second.id]) == [second, None, first, second]
    assert await store.get(USER, []) == []
    assert await store.get(Partition("default", "nobody"), [first.id]) == [None]


async def test_get_of_too_many_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInputError):
        await store.get(USER, [make_id()] * (MAX_GET + 1))


async def test_followers_are_found(store: Store) -> None:
    first = make_memory("first")
    second = make_memory("second", previous_id=first.id)
    third = make_memory("third", previous_id=first.id)
    await store.commit(make_change([first, second, third]))
    await store.commit(make_change([make_memory(previous_id=first.id)], partition=Partition("default", "bob")))
    assert await store.find_followers(USER, first.id) == [second, third]
    assert await store.find_followers(USER, third.id) == []
    await store.commit(make_change([replace(second, previous_id=None, version=2)]))
    assert await store.find_followers(USER, first.id) == [third]


async def test_dependents_are_what_rests_on_a_record_or_replaced_it(store: Store) -> None:
    said = make_memory()
    fact = make_memory(f"digits {said.id.hex}", kind=Kind.FACT, tier=Tier.LTM)
    resting = make_memory("fact", kind=Kind.FACT, tier=Tier.LTM, evidence_ids=(make_id(), said.id))
    newer = make_memory("newer", kind=Kind.FACT, tier=Tier.LTM, supersedes_ids=(said.id,), state=State.ARCHIVED)
    await store.commit(Change(USER, puts=[said, fact]))
    await store.commit(Change(USER, puts=[resting, newer]))
    assert [memory.id for memory in await store.find_dependents(USER, said.id)] == [resting.id, newer.id]
    assert await store.find_dependents(Partition("default", "other"), said.id) == []
    assert await store.find_dependents(USER, make_id()) == []


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_paging_gives_each_record_once_newest_first(store: Store, limit: int) -> None:
    memories = [make_memory(str(i), session_id=str(i % 2)) for i in range(20)]
    for start in range(0, 20, 5):
        await store.commit(make_change(memories[start : start + 5]))
    seen: list[Memory] = []
    before_order: int | None = None
    while True:
        page = await store.list_page(
            USER, MemoryFilter(session_ids=frozenset("1")), limit=limit, before_order=before_order, now=0
        )
        assert len(page.memories) <= limit
        seen += page.memories
        before_order = page.next_order
        if before_order is None:
            break
        await store.commit(make_change([make_memory("newer", session_id="1")]))  # disturbs no page that follows
    assert seen == memories[::-1][::2]


async def test_full_last_page_has_no_next(store: Store) -> None:
    await store.commit(make_change([make_memory() for _ in range(4)]))
    page = await store.list_page(USER, MemoryFilter(), limit=4, before_order=None, now=0)
    assert (len(page.memories), page.next_order) == (4, None)


FILTER_CASES: dict[str, tuple[MemoryFilter, set[str]]] = {
    "nothing asked": (MemoryFilter(), {"turn", "fact"}),
    "archived too": (MemoryFilter(include_archived=True), {"turn", "fact", "archived"}),
    "tier": (MemoryFilter(tiers=frozenset({Tier.LTM})), {"fact"}),
    "tiers": (MemoryFilter(tiers=frozenset({Tier.LTM, Tier.MTM})), {"turn", "fact"}),
    "kind": (MemoryFilter(kinds=frozenset({Kind.TURN})), {"turn"}),
    "session": (MemoryFilter(session_ids=frozenset({"s'1", "other"})), {"turn"}),
    "agent": (MemoryFilter(agent_ids=frozenset({"ä"})), {"fact"}),
    "no session": (MemoryFilter(session_ids=frozenset({""})), {"fact"}),
    "from is included": (MemoryFilter(occurred_from=20), {"fact"}),
    "from later": (MemoryFilter(occurred_from=21), set()),
    "to is excluded": (MemoryFilter(occurred_to=20), {"turn"}),
    "to later": (MemoryFilter(occurred_to=21), {"turn", "fact"}),
    "range": (MemoryFilter(occurred_from=11, occurred_to=20), set()),
    "before validity": (MemoryFilter(as_of=99), {"turn"}),
    "validity begins": (MemoryFilter(as_of=100), {"turn", "old"}),
    "validity ends": (MemoryFilter(as_of=200), {"turn", "fact"}),
    "metadata": (MemoryFilter(metadata=Condition("stars", Operator.GTE, (4,))), {"turn"}),
    "metadata of several": (
        MemoryFilter(
            metadata=AnyOf(
                (
                    Condition("stars", Operator.LT, (4,)),
                    AllOf((Not(Condition("stars", Operator.NE, (5,))), Condition("tag", Operator.CONTAINS, ("e",)))),
                )
            )
        ),
        {"turn", "fact"},
    ),
    "all together": (
        MemoryFilter(
            tiers=frozenset({Tier.LTM}), kinds=frozenset({Kind.FACT}), occurred_from=0, occurred_to=100, as_of=150
        ),
        {"old"},
    ),
}


@pytest.mark.parametrize(("record_filter", "expected"), FILTER_CASES.values(), ids=FILTER_CASES.keys())
async def test_list_filters(store: Store, record_filter: MemoryFilter, expected: set[str]) -> None:
    fact = {"tier": Tier.LTM, "kind": Kind.FACT}
    records = [
        make_memory("turn", session_id="s'1", occurred_at=10, metadata={"stars": 5, "tag": "red"}),
        make_memory("fact", **fact, agent_id="ä", occurred_at=20, valid_from=200, metadata={"stars": 3.5}),
        make_memory("old", **fact, occurred_at=20, valid_from=100, valid_to=200),
        make_memory("archived", session_id="s'1", occurred_at=10, state=State.ARCHIVED),
    ]
    await store.commit(make_change(records))
    page = await store.list_page(USER, record_filter, limit=10, before_order=None, now=250)
    assert {memory.text for memory in page.memories} == expected


# Opening and closing


async def test_reopening_brings_everything_back(make_store: MakeStore) -> None:
    memory, deleted = make_full_memory(), make_memory()
    store = make_store()
    await store.open()
    await store.commit(make_change([memory, deleted], request_id="r", request_digest=b"d", request_result=b"x"))
    await store.commit(Change(USER, deletes=[deleted.id]))
    await store.put_key(KeyRecord("k", "default", b"hash"))
    before = await store.changes_since(USER, None)
    await store.close()
    store = make_store()
    await store.open()
    after = await store.changes_since(USER, None)
    assert (after.version, after.is_full) == (2, True)
    assert [(row.memory, row.order) for row in after.rows] == [(row.memory, row.order) for row in before.rows]
    assert list((await store.changes_since(USER, 1)).removed_ids) == [deleted.id]
    assert await store.find_request(USER, "r", b"d") == CommitResult(2, is_replay=True, request_result=b"x")
    assert await store.find_key("k") is not None
    assert (await store.commit(Change(USER))).version == 3
    await store.close()


async def test_close_finishes_what_was_begun(make_store: MakeStore) -> None:
    store = make_store()
    await store.open()
    commits = [asyncio.create_task(store.commit(make_change([make_memory()]))) for _ in range(50)]
    await asyncio.sleep(0)  # each has been handed to the store
    await asyncio.gather(store.close(), store.close())
    assert len(await asyncio.gather(*commits)) == 50
    store = make_store()
    await store.open()
    assert (await store.changes_since(USER, None)).version == 50
    await store.close()


async def test_closed_store_refuses(make_store: MakeStore) -> None:
    store = make_store()
    for _ in range(2):  # before it is opened, and after it is closed
        calls = [
            store.commit(Change(USER)),
            store.get(USER, [uuid.UUID(int=1)]),
            store.record_access(USER, [make_id()], 0),
        ]
        for call in calls:
            with pytest.raises(StoreError):
                await call
        await store.open()
        await store.close()
