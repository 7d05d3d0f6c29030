"""Any history, then a run, then its undoing: the records say what they said before, and no turn was ever touched."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from lightmem_server.core import Engine
from lightmem_server.pipeline.consolidation.run import JOB_KIND, WATERMARK
from lightmem_server.pipeline.consolidation.undo import Undoing
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.pipeline.residents import Residents
from lightmem_server.slm.fakes import HashEmbedder
from lightmem_server.store.protocol import Change, JobRecord, VectorRecord
from lightmem_server.store.run_protocol import RunState, RunTag
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Kind, Memory, State, Statement, Tier
from tests.contract.store_records import USER, make_memory

DIM = 16

words = st.sampled_from(["Ana lives in Porto.", "Ana lives in Lisbon.", "Bo has a cat.", "Bo has a dog."])
patches = st.fixed_dictionaries(
    {},
    optional={
        "text": words,
        "valid_to": st.none() | st.integers(0, 9),
        "confidence": st.sampled_from([0.1, 0.5]),
        "state": st.sampled_from(State),
        "statement": st.none() | st.just(Statement("Ana", "lives in", "Porto")),
        "participants": st.sampled_from([(), ("Ana",)]),
    },
)
Operation: TypeAlias = tuple[int, dict[str, object]]
"""Change the n-th fact (modulo how many there are), or make one when the number is negative."""

operations = st.lists(st.tuples(st.integers(-2, 3), patches), max_size=6)


async def apply(
    store: SqliteStore, facts: list[uuid.UUID], turns: Sequence[Memory], operation: Operation, tag: RunTag | None
) -> None:
    number, patch = operation
    if number < 0 or not facts:
        evidence = (turns[number % len(turns)].id,)
        fact = make_memory(**({"tier": Tier.LTM, "kind": Kind.FACT, "evidence_ids": evidence} | patch))
        facts.append(fact.id)
    else:
        (stored,) = await store.get(USER, [facts[number % len(facts)]])
        assert stored is not None
        fact = replace(stored, **patch, version=stored.version + 1)  # type: ignore[arg-type]
    vector = VectorRecord(fact.id, "hash", await HashEmbedder(DIM).embed_passages([fact.text] * len(VIEW_NAMES)))
    await store.commit(Change(USER, puts=[fact], vectors=[vector], run=tag))


async def read(store: SqliteStore) -> dict[uuid.UUID, tuple[Memory, bytes]]:
    """Every record, but for its version, and its vectors."""
    rows = (await store.changes_since(USER, None)).rows
    return {
        row.memory.id: (replace(row.memory, version=0), b"" if row.vector is None else row.vector.vectors.tobytes())
        for row in rows
    }


async def check(
    folder: Path, before: list[Operation], in_run: list[Operation], archived: set[int], executor: ThreadPoolExecutor
) -> None:
    store = SqliteStore(folder)
    await store.open()
    turns = [make_memory(f"turn {number}") for number in range(3)]
    await store.commit(Change(USER, puts=turns, jobs=[JobRecord(JOB_KIND)]))
    facts: list[uuid.UUID] = []
    for operation in before:
        await apply(store, facts, turns, operation, None)
    expected = await read(store)
    job = await store.claim_job([JOB_KIND], owner="w", lease_micros=1, now=0)
    assert job is not None
    run = await store.begin_run(
        USER, job_id=job.job_id, owner="w", cause="", model="", prompt="", watermark=WATERMARK, now=0
    )
    assert run is not None
    for number, operation in enumerate(in_run):
        await apply(store, facts, turns, operation, RunTag(run.run_id, "w", "integrate", str(number)))
    await store.finish_run(
        run.run_id, job_id=job.job_id, owner="w", state=RunState.DONE, error="", watermark=WATERMARK, now=0
    )
    puts = [replace(turns[number], state=State.ARCHIVED, version=2) for number in archived]
    await store.commit(Change(USER, puts=puts, reason="archive"))
    expected |= {turn.id: (replace(turn, version=0), b"") for turn in puts}
    engine = Engine(dim=DIM, view_names=VIEW_NAMES, budget_bytes=1 << 24, stm_turns=4, stm_tokens=100)
    residents = Residents(store, engine, executor, embedding="hash")
    await Undoing(store, residents, HashEmbedder(DIM), embedding="hash").undo("default", run.run_id)
    assert await read(store) == expected
    for number, turn in enumerate(turns):
        (stored,) = await store.get(USER, [turn.id])
        assert stored == (replace(turn, state=State.ARCHIVED, version=2) if number in archived else turn)
    await store.close()


@given(before=operations, in_run=operations, archived=st.sets(st.integers(0, 2)))
@settings(max_examples=40, deadline=None)
def test_a_run_that_is_undone_leaves_the_words_as_before(
    before: list[Operation], in_run: list[Operation], archived: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as executor:
        asyncio.run(check(Path(folder), before, in_run, archived, executor))
