"""A fact and its evidence don't crowd each other out; what was superseded is not told beside what is so."""

from __future__ import annotations

import uuid

import pytest

from lightmem_server.pipeline.consolidation.integrate import ENDED
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.pipeline.support import drop_covered, drop_superseded, newest_ended_first
from lightmem_server.slm.controller import Need
from lightmem_server.store.protocol import Change
from lightmem_server.types import Kind, Memory, Statement, Tier
from tests.contract.store_records import make_memory
from tests.unit.pipeline.conftest import ANA, Pipeline


def candidate(memory: Memory, logit: float | None = 0.0) -> Candidate:
    """A judged one."""
    return Candidate(memory.id, 1, 1.0, {}, memory=memory, logit=logit)


def fact(*evidence: Memory, **fields: object) -> Memory:
    """A fact that rests on turns."""
    ids = tuple(turn.id for turn in evidence)
    return make_memory("Ana lives in Porto", tier=Tier.LTM, kind=Kind.FACT, evidence_ids=ids, **fields)


@pytest.mark.parametrize("need", Need)
def test_a_fact_behind_its_turn_leaves(need: Need) -> None:
    turn = candidate(make_memory())
    known = candidate(fact(turn.memory or make_memory()), logit=9.0)
    drop_covered([turn, known], need)
    assert (turn.drop_reason, known.drop_reason) == (None, DropReason.COVERED)
    assert known.duplicate_of == turn.memory_id


@pytest.mark.parametrize(
    ("need", "fact_logit", "turn_logit", "is_covered"),
    [
        (Need.KNOWLEDGE, 2.0, 1.0, True),
        (Need.KNOWLEDGE, 1.0, 2.0, False),
        (Need.KNOWLEDGE, None, 1.0, False),
        (Need.KNOWLEDGE, 1.0, None, False),
        (Need.EPISODE, 2.0, 1.0, False),
    ],
)
def test_a_turn_behind_its_fact_leaves_where_the_fact_answers_as_well(
    need: Need, fact_logit: float | None, turn_logit: float | None, is_covered: bool
) -> None:
    said = make_memory("I live in Porto.")
    turn, known = candidate(said, turn_logit), candidate(fact(said), fact_logit)
    drop_covered([known, turn], need)
    assert (turn.drop_reason is DropReason.COVERED) is is_covered
    assert known.drop_reason is None


def test_a_turn_that_tells_more_than_its_fact_stays() -> None:
    said = make_memory("I live in Porto, above a bakery.")
    turn, known = candidate(said, 0.0), candidate(fact(said), 9.0)
    drop_covered([known, turn], Need.KNOWLEDGE)
    assert turn.drop_reason is None


def test_what_was_dropped_covers_nothing() -> None:
    said = make_memory()
    turn, known = candidate(said), candidate(fact(said))
    turn.drop_reason = DropReason.IN_CONTEXT
    drop_covered([turn, known], Need.KNOWLEDGE)
    assert known.drop_reason is None


async def test_turns_of_what_was_superseded_leave(pipeline: Pipeline) -> None:
    old_turn, new_turn, shared = (
        make_memory(text) for text in ("I live in Ghent", "I moved to Leuven", "I moved again")
    )
    old = fact(old_turn, shared)
    new = fact(new_turn, shared, supersedes_ids=(old.id,))
    await pipeline.store.commit(Change(ANA, puts=[old_turn, new_turn, shared, old, new]))
    candidates = [candidate(memory) for memory in (new, old_turn, new_turn, shared)]
    await drop_superseded(pipeline.store, ANA, candidates)
    assert [each.drop_reason for each in candidates] == [None, DropReason.SUPERSEDED, None, None]
    assert candidates[1].duplicate_of == new.id


@pytest.mark.parametrize(
    ("said_at", "ended_at", "before", "is_left_out"),
    [
        (5, 8, 8, True),
        (5, 8, 7, False),  # "Where did I live in 2022?": there for a part of it
        (8, 8, 8, False),
        (5, None, 8, False),
        (5, 8, None, True),
        (5, None, None, True),
    ],
)
async def test_of_what_was_so_then_turns_leave_that_tell_what_had_ended_before(
    pipeline: Pipeline, said_at: int, ended_at: int | None, before: int | None, is_left_out: bool
) -> None:
    said = make_memory("I live in Ghent", occurred_at=said_at)
    old = fact(said, valid_to=ended_at)
    await pipeline.store.commit(Change(ANA, puts=[said, old]))
    turn = candidate(said)
    await drop_superseded(pipeline.store, ANA, [candidate(fact(supersedes_ids=(old.id,))), turn], before=before)
    assert (turn.drop_reason is DropReason.SUPERSEDED) is is_left_out


def ended(what: str, *, at: int, relevance: float | None, subject: str = "Ana") -> Candidate:
    """A judged fact that says that something is no longer so."""
    statement = Statement(subject, ENDED, what)
    memory = make_memory(f"No longer: {what}", kind=Kind.FACT, tier=Tier.LTM, statement=statement, occurred_at=at)
    made = candidate(memory)
    made.relevance = relevance
    return made


def test_of_what_ended_and_answers_alike_the_last_comes_first() -> None:
    turn = candidate(make_memory())
    first, other = ended("allergic_to soy", at=1, relevance=0.8), ended("lives_in Ghent", at=9, relevance=0.79)
    last, worse = ended("allergic_to nuts", at=3, relevance=0.75), ended("allergic_to milk", at=8, relevance=0.74)
    assert newest_ended_first([first, turn, other, last, worse], 0.05) == [last, turn, other, first, worse]
    same = [first, ended("allergic_to soy", at=5, relevance=0.8, subject="Ben")]
    assert newest_ended_first(same, 0.05) == same, "another person's"


def test_what_was_dropped_or_is_not_judged_changes_no_place() -> None:
    first, last = ended("allergic_to soy", at=1, relevance=0.8), ended("allergic_to nuts", at=3, relevance=0.8)
    unjudged = ended("allergic_to milk", at=9, relevance=None)
    last.drop_reason = DropReason.COVERED
    assert newest_ended_first([first, last, unjudged], 0.05) == [first, last, unjudged]
    plain = [candidate(fact(occurred_at=1)), candidate(fact(occurred_at=2))]
    assert newest_ended_first(plain, 0.05) == plain


async def test_a_fact_that_was_dropped_takes_nothing_along(pipeline: Pipeline) -> None:
    said = make_memory("I live in Ghent")
    old = fact(said)
    await pipeline.store.commit(Change(ANA, puts=[said, old]))
    new = candidate(fact(supersedes_ids=(old.id, uuid.uuid4())))
    new.drop_reason = DropReason.MIN_RELEVANCE
    turn = candidate(said)
    await drop_superseded(pipeline.store, ANA, [new, turn])
    assert turn.drop_reason is None
