"""What every store keeps of accesses, figures, jobs that wait, models and keys."""

from __future__ import annotations

from dataclasses import replace

from lightmem_server.store.protocol import Change, JobRecord, KeyRecord, Store
from lightmem_server.types import SHARED_USER, Kind, Partition, State, Tier
from tests.contract.store_records import MODEL, USER, make_change, make_full_memory, make_id, make_memory, make_vector


async def test_access_is_counted_and_is_not_a_change(store: Store) -> None:
    memory, other = make_memory(), make_memory(access_count=3, last_accessed_at=9)
    await store.commit(make_change([memory, other]))
    await store.record_access(USER, [memory.id, other.id, make_id()], 10)
    await store.record_access(USER, [memory.id], 8)
    await store.record_access(USER, [], 8)
    assert await store.get(USER, [memory.id, other.id]) == [
        replace(memory, access_count=2, last_accessed_at=10),
        replace(other, access_count=4, last_accessed_at=10),
    ]
    assert (await store.changes_since(USER, None)).version == 1


async def test_update_keeps_the_access_count(store: Store) -> None:
    memory = make_memory()
    await store.commit(make_change([memory]))
    await store.record_access(USER, [memory.id], 10)
    await store.commit(Change(USER, puts=[replace(memory, version=2, access_count=0)]))
    assert (await store.get(USER, [memory.id]))[0] == replace(memory, version=2, access_count=1, last_accessed_at=10)


async def test_stats_count_by_tier_kind_and_state(store: Store) -> None:
    facts = [make_memory(tier=Tier.LTM, kind=Kind.FACT, state=state) for state in (State.ACTIVE, State.ARCHIVED)]
    await store.commit(make_change([make_memory(), make_memory(), *facts], jobs=[JobRecord("k", "1"), JobRecord("k")]))
    await store.commit(make_change([make_memory()], partition=Partition("default", "bob")))
    await store.commit(make_change([make_memory()], partition=Partition("default", SHARED_USER)))
    await store.commit(make_change([make_memory()], partition=Partition("other", "ada"), jobs=[JobRecord("k")]))
    everyone = await store.stats("default")
    assert everyone.user_count == 2
    assert everyone.counts == {(Tier.MTM, Kind.TURN): (3, 0), (Tier.LTM, Kind.FACT): (1, 1)}
    assert everyone.pending_job_count == 2
    assert everyone.size_bytes > 0
    one = await store.stats("default", "ada")
    assert (one.user_count, one.counts[Tier.MTM, Kind.TURN], one.pending_job_count) == (1, (2, 0), 2)
    nobody = await store.stats("default", "nobody")
    assert (nobody.user_count, nobody.counts) == (0, {})


async def test_job_of_the_same_kind_and_key_waits_once(store: Store) -> None:
    for job in (JobRecord("k", "a"), JobRecord("k", "a", "again"), JobRecord("k", "b"), JobRecord("l", "a")):
        await store.commit(Change(USER, jobs=[job]))
    assert (await store.stats("default")).pending_job_count == 3


async def test_embedding_models_are_counted(store: Store) -> None:
    assert await store.embedding_models() == {}
    first, second, without = make_memory(), make_memory(), make_memory()
    vectors = [make_vector(first), make_vector(second, model="other")]
    await store.commit(Change(USER, puts=[first, second, without], vectors=vectors))
    assert await store.embedding_models() == {MODEL: 1, "other": 1}
    assert [row.vector is None for row in (await store.changes_since(USER, None)).rows] == [False, False, True]


async def test_keys_are_stored_replaced_and_listed(store: Store) -> None:
    key = KeyRecord("b", "default", b"\0hash", "label", ("ada", "b'o,b"), is_admin=True, created_at=5, expires_at=6)
    for record in (key, KeyRecord("a", "default", b""), KeyRecord("c", "default", b""), KeyRecord("d", "other", b"")):
        await store.put_key(record)
    assert await store.find_key("b") == key
    assert await store.find_key("B") is None
    revoked = replace(key, revoked_at=7, label="", is_admin=False, user_ids=())
    await store.put_key(revoked)
    assert await store.find_key("b") == revoked
    assert [k.key_id for k in await store.list_keys("default", limit=2, after_key_id="")] == ["a", "b"]
    assert [k.key_id for k in await store.list_keys("default", limit=2, after_key_id="b")] == ["c"]


async def test_check_finds_nothing_in_a_sound_store(store: Store) -> None:
    await store.commit(make_change([make_full_memory()]))
    assert await store.check() == []
