from dataclasses import replace

import pytest

from lightmem_server.errors import NotFoundError, VersionMismatchError
from lightmem_server.types import Memory, Turn
from tests.unit.pipeline.conftest import ANA, Pipeline


def pin(memory: Memory) -> Memory:
    return replace(memory, is_pinned=True)


async def test_an_update_counts_the_version(pipeline: Pipeline) -> None:
    (id_,) = (await pipeline.write(Turn("x"))).memory_ids
    changed = await pipeline.editing.update(ANA, id_, pin, expected_version=1)
    assert (changed.version, changed.is_pinned) == (2, True)
    with pytest.raises(VersionMismatchError):
        await pipeline.editing.update(ANA, id_, pin, expected_version=1)


async def test_deleting_twice_is_not_found(pipeline: Pipeline) -> None:
    (id_,) = (await pipeline.write(Turn("x"))).memory_ids
    await pipeline.editing.delete(ANA, id_)
    for call in (pipeline.editing.delete(ANA, id_), pipeline.editing.update(ANA, id_, pin, expected_version=0)):
        with pytest.raises(NotFoundError):
            await call


async def test_the_turns_behind_a_deleted_one_lose_its_words(pipeline: Pipeline) -> None:
    ids = (await pipeline.write(*(Turn(text) for text in ("a", "heliotrope?", "b", "c", "d")))).memory_ids
    before = {row.memory.id: row.vector for row in (await pipeline.store.changes_since(ANA, None)).rows}
    assert len((await pipeline.trace("heliotrope")).candidates) > 0

    await pipeline.editing.delete(ANA, ids[1])

    rows = {row.memory.id: row for row in (await pipeline.store.changes_since(ANA, None)).rows}
    assert [rows[id_].memory.previous_id for id_ in (ids[0], *ids[2:])] == [None, ids[0], ids[2], ids[3]]
    assert [rows[id_].memory.version for id_ in (ids[0], *ids[2:])] == [1, 2, 2, 1]
    changed = rows[ids[2]].vector
    old = before[ids[2]]
    assert changed is not None
    assert old is not None
    assert (changed.vectors != old.vectors).any()
    lexical = [
        c.source_ranks.get(f"lexical_{view}")
        for c in (await pipeline.trace("heliotrope")).candidates
        for view in ("question", "window")
    ]
    assert not any(lexical)
