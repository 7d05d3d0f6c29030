"""Deleting a turn takes along what was made of its words, and nothing else."""

from __future__ import annotations

import uuid

import pytest

from lightmem_server.errors import NotFoundError
from lightmem_server.pipeline.consolidation.integrate import ENDED
from lightmem_server.store.protocol import Change
from lightmem_server.types import Kind, Memory, Statement, Tier
from tests.contract.store_records import make_memory
from tests.unit.pipeline.conftest import ANA, Pipeline


def derived(kind: Kind, *evidence: Memory, **fields: object) -> Memory:
    """A record that rests on others."""
    ids = tuple(each.id for each in evidence)
    return make_memory(
        f"{kind.name} of {len(ids)}", tier=Tier.LTM, kind=kind, evidence_ids=ids, confidence=0.91, **fields
    )


async def left(pipeline: Pipeline) -> dict[uuid.UUID, Memory]:
    """All records."""
    return {row.memory.id: row.memory for row in (await pipeline.store.changes_since(ANA, None)).rows}


@pytest.mark.parametrize("kind", [Kind.SUMMARY, Kind.FACT, Kind.PROFILE])
async def test_what_is_worded_from_a_turn_goes_with_it(pipeline: Pipeline, kind: Kind) -> None:
    said, other = make_memory("I live in Ghent"), make_memory("I love tea")
    made = derived(kind, said, other)
    await pipeline.store.commit(Change(ANA, puts=[said, other, made]))
    await pipeline.editing.delete(ANA, said.id)
    assert set(await left(pipeline)) == {other.id}


async def test_a_fact_loses_a_witness_and_is_less_sure(pipeline: Pipeline) -> None:
    said, again = make_memory("I live in Ghent"), make_memory("I still live in Ghent")
    fact = derived(Kind.FACT, said, again)
    await pipeline.store.commit(Change(ANA, puts=[said, again, fact]))
    await pipeline.editing.delete(ANA, again.id)
    kept = (await left(pipeline))[fact.id]
    assert kept.evidence_ids == (said.id,)
    assert (kept.version, round(kept.confidence, 6)) == (2, 0.7)


async def test_what_rests_on_what_goes_goes(pipeline: Pipeline) -> None:
    said, denied, other = (make_memory(text) for text in ("I'm allergic to nuts", "I'm not", "I speak Dutch"))
    fact, spoken = derived(Kind.FACT, said), derived(Kind.FACT, other)
    note = derived(Kind.FACT, denied, supersedes_ids=(fact.id,), statement=Statement("Ana", ENDED, "allergic_to nuts"))
    profile = derived(Kind.PROFILE, spoken, fact)
    await pipeline.store.commit(Change(ANA, puts=[said, denied, other, fact, spoken, note, profile]))
    await pipeline.editing.delete(ANA, said.id)
    assert set(await left(pipeline)) == {denied.id, other.id, spoken.id}


async def test_a_fact_that_replaced_another_stays(pipeline: Pipeline) -> None:
    said, moved = make_memory("I live in Ghent"), make_memory("I moved to Leuven")
    old = derived(Kind.FACT, said)
    new = derived(Kind.FACT, moved, supersedes_ids=(old.id,), statement=Statement("Ana", "lives_in", "Leuven"))
    await pipeline.store.commit(Change(ANA, puts=[said, moved, old, new]))
    await pipeline.editing.delete(ANA, said.id)
    assert set(await left(pipeline)) == {moved.id, new.id}


async def test_another_users_records_are_not_looked_at(pipeline: Pipeline) -> None:
    with pytest.raises(NotFoundError):
        await pipeline.editing.delete(ANA, uuid.uuid4())
