"""What every store keeps about handing a partition out and taking it in; the rest is tests/property/test_transfer.py."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from lightmem_server.errors import MemoryDiffersError, PreconditionError, UserErasedError
from lightmem_server.store.protocol import Change, Store
from lightmem_server.store.transfer_protocol import (
    Carried,
    CarriedMemory,
    CarriedVersion,
    ImportBatch,
    ImportedMemory,
    Outline,
)
from lightmem_server.types import Memory, Partition
from tests.contract.store_records import USER, make_change, make_full_memory, make_memory, make_vector

BOB = Partition("default", "bob")
MARK = "consolidate"


async def export(store: Store, partition: Partition = USER) -> list[Carried]:
    seen: list[Carried] = []
    await store.export(partition, seen.append, watermark=MARK)
    return seen


def batch(*memories: Memory, partition: Partition = USER, generation: int = 0, is_new: bool = True) -> ImportBatch:
    imported = [
        ImportedMemory(line, CarriedMemory(memory, make_vector(memory), is_new))
        for line, memory in enumerate(memories, 2)
    ]
    return ImportBatch(partition, generation, memories=imported)


async def test_a_record_comes_out_with_all_its_versions_and_in_order(store: Store) -> None:
    first, second = make_full_memory(), make_memory("second")
    await store.commit(make_change([first, second]))
    archived = replace(first, metadata={}, version=2)
    await store.commit(Change(USER, puts=[archived], reason="tidy"))
    outline, version, *memories = await export(store)
    assert isinstance(outline, Outline)
    assert (outline.run_count, outline.change_count, outline.version_count, outline.memory_count) == (0, 0, 1, 2)
    assert isinstance(version, CarriedVersion)
    assert (version.memory, version.reason) == (replace(first, access_count=0, last_accessed_at=None), "tidy")
    assert [each.memory for each in memories if isinstance(each, CarriedMemory)] == [archived, second]
    (empty,) = await export(store, BOB)
    assert isinstance(empty, Outline)
    assert empty.memory_count == 0


async def test_an_export_is_of_one_moment_and_holds_up_nobody(store: Store) -> None:
    await store.commit(make_change([make_memory(str(number)) for number in range(5)]))
    reached, go_on = threading.Event(), threading.Event()
    seen: list[Carried] = []

    def visit(carried: Carried) -> None:
        seen.append(carried)
        reached.set()
        go_on.wait(30)

    exporting = asyncio.create_task(store.export(USER, visit, watermark=MARK))
    await asyncio.to_thread(reached.wait, 30)
    await store.commit(make_change([make_memory("late")]))
    assert (await store.stats("default")).counts
    go_on.set()
    await exporting
    assert len(seen) == 6


async def test_what_the_visitor_raises_ends_the_export(store: Store) -> None:
    await store.commit(make_change([make_memory()]))

    def visit(carried: Carried) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await store.export(USER, visit, watermark=MARK)
    assert len(await export(store)) == 2


async def test_a_batch_is_taken_in_whole_or_not_at_all(store: Store) -> None:
    there = make_memory("there")
    await store.commit(make_change([there]))
    with pytest.raises(MemoryDiffersError, match="line 3"):
        await store.import_batch(batch(make_memory("new"), replace(there, text="other")))
    assert [row.memory for row in (await store.changes_since(USER, None)).rows] == [there]
    assert await store.import_batch(batch(make_memory("new", version=7), there)) == 1
    rows = (await store.changes_since(USER, None)).rows
    assert [(row.memory.text, row.memory.version, row.vector is not None) for row in rows] == [
        ("there", 1, True),
        ("new", 7, True),
    ]
    await store.commit(Change(USER, puts=[replace(rows[1].memory, version=8)]))


async def test_replicas_see_what_was_imported(store: Store) -> None:
    await store.commit(make_change([make_memory()]))
    version = (await store.changes_since(USER, None)).version
    memory = make_memory("imported")
    await store.import_batch(batch(memory))
    changes = await store.changes_since(USER, version)
    assert (changes.is_full, [row.memory for row in changes.rows]) == (False, [memory])
    version = changes.version
    assert await store.import_batch(batch(memory)) == 0
    assert (await store.changes_since(USER, version)).version == version


async def test_a_deleted_id_is_refused_until_the_user_is_erased(store: Store) -> None:
    memory = make_memory()
    await store.commit(make_change([memory]))
    await store.commit(Change(USER, deletes=[memory.id]))
    with pytest.raises(PreconditionError) as caught:
        await store.import_batch(batch(memory))
    assert caught.value.reason == "MEMORY_DELETED"
    await store.erase(USER, now=1)
    with pytest.raises(UserErasedError):
        await store.import_batch(batch(memory))
    with pytest.raises(UserErasedError):
        await store.finish_import(USER, watermark=MARK, generation=0)
    assert await store.import_batch(batch(memory, generation=1)) == 1


async def test_the_watermark_passes_what_was_looked_at_and_nothing_else(store: Store) -> None:
    before, looked_at, new = make_memory("before"), make_memory("looked at"), make_memory("new")
    await store.commit(make_change([before]))
    await store.import_batch(batch(looked_at, is_new=False))
    await store.import_batch(batch(new))
    assert await store.finish_import(USER, watermark=MARK, generation=0)
    since = (await store.changes_since(USER, await store.watermark(USER, MARK))).rows
    assert {row.memory.text for row in since} == {"before", "new"}
    watermark = await store.watermark(USER, MARK)
    assert await store.finish_import(USER, watermark=MARK, generation=0)
    assert await store.watermark(USER, MARK) == watermark
    await store.import_batch(batch(make_memory(), partition=BOB, is_new=False))
    assert not await store.finish_import(BOB, watermark=MARK, generation=0)
