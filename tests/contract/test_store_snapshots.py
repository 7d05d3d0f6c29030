"""What every store keeps of snapshots: a copy of a partition that holds no word which was deleted or rewritten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightmem_server.errors import NotFoundError
from lightmem_server.store.protocol import Change, SnapshotRecord, Store
from lightmem_server.types import Partition, State
from tests.contract.store_records import USER, MakeStore, make_change, make_id, make_memory


def make_snapshot(version: int, data: bytes = b"bytes") -> SnapshotRecord:
    return SnapshotRecord(version, "engine-1/english", data)


async def test_a_snapshot_comes_back_whole_and_moves_no_version(store: Store, make_store: MakeStore) -> None:
    await store.commit(make_change([make_memory()]))
    assert await store.load_snapshot(USER) is None
    large = make_snapshot(1, bytes(range(256)) * 10_000)
    assert await store.save_snapshot(USER, large)
    assert await store.load_snapshot(USER) == large
    small = make_snapshot(1, b"")
    assert await store.save_snapshot(USER, small)
    assert (await store.changes_since(USER, None)).version == 1
    await store.close()
    again = make_store()
    await again.open()
    assert await again.load_snapshot(USER) == small
    assert await again.load_snapshot(Partition("default", "bob")) is None
    await again.close()


async def test_a_snapshot_of_a_version_that_never_was_is_refused(store: Store) -> None:
    assert not await store.save_snapshot(USER, make_snapshot(0))
    await store.commit(make_change([make_memory()]))
    assert not await store.save_snapshot(USER, make_snapshot(2))
    assert await store.load_snapshot(USER) is None


async def test_new_records_and_archiving_leave_the_snapshot(store: Store) -> None:
    memory = make_memory()
    await store.commit(make_change([memory]))
    await store.save_snapshot(USER, make_snapshot(1))
    await store.commit(make_change([make_memory()]))
    await store.commit(Change(USER, puts=[replace(memory, state=State.ARCHIVED, version=2)]))
    assert await store.load_snapshot(USER) == make_snapshot(1)


@pytest.mark.parametrize("rewritten", ["deleted", "text", "speaker", "metadata", "session_id"])
async def test_what_was_said_goes_from_the_snapshot_too(store: Store, rewritten: str) -> None:
    memory, other = make_memory(), make_memory("My cat is Nino.")
    await store.commit(make_change([memory, other]))
    await store.save_snapshot(USER, make_snapshot(1))
    bob = Partition("default", "bob")
    await store.commit(make_change([make_memory()], partition=bob))
    await store.save_snapshot(bob, make_snapshot(1))
    value = {"mood": "calm"} if rewritten == "metadata" else "else"
    if rewritten == "deleted":
        await store.commit(Change(USER, deletes=[memory.id]))
    else:
        changed = replace(memory, version=2, **{rewritten: value})  # type: ignore[arg-type]
        await store.commit(Change(USER, puts=[changed]))
    assert await store.load_snapshot(USER) is None
    # One that was made before and comes late holds the same words.
    assert not await store.save_snapshot(USER, make_snapshot(1))
    assert await store.load_snapshot(USER) is None
    assert await store.save_snapshot(USER, make_snapshot(2))
    assert await store.load_snapshot(bob) == make_snapshot(1)


async def test_a_refused_deletion_leaves_the_snapshot(store: Store) -> None:
    await store.commit(make_change([make_memory()]))
    await store.save_snapshot(USER, make_snapshot(1))
    with pytest.raises(NotFoundError):
        await store.commit(Change(USER, deletes=[make_id()]))
    assert await store.load_snapshot(USER) == make_snapshot(1)
