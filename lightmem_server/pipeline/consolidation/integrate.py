"""Integrates grounded facts into what is known, near their anchors: the facts of the same subject.

    same thing said again        ─▶ reinforce: one more witness
    another, where one can hold  ─▶ supersede: the older ends when the newer begins
    a denial of it               ─▶ end it
    else                         ─▶ add, linked to its neighbours

Nothing is removed: what no longer holds keeps its time of validity, and `as_of` finds it. Pure: the caller makes it durable.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from lightmem_server.pipeline.consolidation.confidence import confidence, gate_confidence, gate_of
from lightmem_server.pipeline.consolidation.gate import dated_statement
from lightmem_server.pipeline.consolidation.known import Known, Vector, is_same_object
from lightmem_server.pipeline.consolidation.model import Proposal
from lightmem_server.pipeline.consolidation.proposals import Relation
from lightmem_server.types import Kind, Memory, Statement, Tier

SAME_LIKENESS = 0.97
"""Cosine of two statements of one subject from which on they say the same, whatever their relation: the embedder gives
"Ana works as a nurse" and "Ana: is a nurse" .97 and more, and "Ana works as a nurse" and "Ana works as a cook" less."""

MOST_EVIDENCE = 32
"""Turns that a fact names; beyond it the oldest but the first are let go of."""

MOST_RELATED = 4
"""Facts of the same subject that a fact is linked to, the nearest by vector."""

DAY_MICROS = 86_400_000_000

ENDED = "ended"
"""Relation of a fact that says that another no longer holds."""


class Action(StrEnum):
    """What was done with a proposal; also the reason in a fact's history."""

    ADD = "add"
    REINFORCE = "reinforce"
    SUPERSEDE = "supersede"
    END = "end"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Denial:
    """A turn that says of a known fact that it doesn't hold, or no longer."""

    fact_id: uuid.UUID
    turn: Memory


class Integrator:
    """Integrates into one user's facts. Call it with proposals in the order in which their turns were said."""

    def __init__(
        self,
        known: Known,
        relations: Mapping[str, Relation],
        *,
        new_id: Callable[[], uuid.UUID],
        now: int,
        count_tokens: Callable[[str], int],
    ) -> None:
        self._known = known
        self._relations = relations
        self._new_id = new_id
        self._now = now
        self._count_tokens = count_tokens

    def add(self, proposal: Proposal, turn: Memory, vector: Vector | None) -> Action:
        """Integrate a proposal.

        Args:
            turn: The turn that it cites.
            vector: Of the statement's text.
        """
        relation = self._relations[proposal.relation]
        fact = self._to_fact(proposal, relation, turn)
        same = self._find_same(fact, relation, vector)
        if same is not None:
            return self._reinforce(same, fact, relation)
        rivals = [known for known in self._rivals(fact, relation) if _overlap(known, fact)]
        if any(_begins(rival) == _begins(fact) and turn.id in rival.evidence_ids for rival in rivals):
            return Action.DROP  # one turn, two answers: which one is meant isn't known
        for rival in rivals:
            if _begins(rival) <= _begins(fact):
                self._known.put(replace(rival, valid_to=_begins(fact)), Action.SUPERSEDE)
                fact = replace(fact, supersedes_ids=(*fact.supersedes_ids, rival.id))
            else:  # older than what is known: it held until then
                ends = min(_begins(rival), fact.valid_to or _begins(rival))
                fact = replace(fact, valid_to=ends)
                if fact.id not in rival.supersedes_ids:
                    self._known.put(replace(rival, supersedes_ids=(*rival.supersedes_ids, fact.id)), Action.SUPERSEDE)
        self._known.put(replace(fact, related_ids=self._neighbours(fact, vector)), Action.ADD, vector)
        return Action.SUPERSEDE if rivals else Action.ADD

    def end(self, denial: Denial, text: str, vector: Vector | None) -> Action:
        """End a fact that a later turn denies, and keep what was said as a fact of its own.

        Args:
            text: What to keep, such as "No longer: Ana lives in Lisbon".
        """
        fact = self._known.facts.get(denial.fact_id)
        if fact is None or fact.statement is None or not _holds_at(fact, denial.turn.occurred_at):
            return Action.DROP
        if denial.turn.id in fact.evidence_ids:
            return Action.DROP
        ended = replace(fact, valid_to=denial.turn.occurred_at)
        self._known.put(ended, Action.END)
        its = fact.statement
        note = replace(
            self._record(text, denial.turn, confidence(gate_confidence(None), 1)),
            statement=Statement(its.subject, ENDED, f"{its.relation} {its.object}"),
            speaker=fact.speaker,
            valid_from=denial.turn.occurred_at,
            supersedes_ids=(fact.id,),
        )
        self._known.put(note, Action.END, vector)
        return Action.END

    def _to_fact(self, proposal: Proposal, relation: Relation, turn: Memory) -> Memory:
        record = self._record(
            dated_statement(proposal, self._relations), turn, confidence(gate_confidence(proposal.score), 1)
        )
        begins = turn.occurred_at if relation.is_plan or proposal.valid_from is None else proposal.valid_from
        ends = proposal.valid_to if relation.is_plan else None
        if relation.lasts_days:
            ends = begins + round(relation.lasts_days * DAY_MICROS)
        return replace(
            record,
            statement=Statement(proposal.subject, proposal.relation, proposal.object),
            valid_from=begins,
            valid_to=None if ends is not None and ends <= begins else ends,
        )

    def _record(self, text: str, turn: Memory, sure: float) -> Memory:
        return Memory(
            id=self._new_id(),
            tier=Tier.LTM,
            kind=Kind.FACT,
            text=text,
            occurred_at=turn.occurred_at,
            created_at=self._now,
            agent_id=turn.agent_id,
            session_id=turn.session_id,
            confidence=sure,
            evidence_ids=(turn.id,),
            token_count=self._count_tokens(text),
        )

    def _find_same(self, fact: Memory, relation: Relation, vector: Vector | None) -> Memory | None:
        its = _statement(fact)
        for known in self._known.about(its.subject):
            other = _statement(known)
            if other.relation == ENDED or not _may_be_same_time(known, fact, relation):
                continue
            if (
                other.relation == its.relation
                and is_same_object(other.object, its.object, is_single=relation.is_single)
                and not self._is_parted(known, fact, relation)
            ):
                return known
            if not relation.is_single and self._known.likeness(known, vector) >= SAME_LIKENESS:
                return known
        return None

    def _is_parted(self, known: Memory, fact: Memory, relation: Relation) -> bool:
        """Whether something else held between the times of two that say the same."""
        return any(
            rival.id != known.id
            and _begins(rival) < _begins(known)
            and (rival.valid_to is None or _begins(fact) < rival.valid_to)
            for rival in self._rivals(fact, relation)
            if _begins(fact) < _begins(known)
        )

    def _reinforce(self, known: Memory, fact: Memory, relation: Relation) -> Action:
        new = [id_ for id_ in fact.evidence_ids if id_ not in known.evidence_ids]
        if not new:
            return Action.DROP
        evidence = (*known.evidence_ids, *new)
        if len(evidence) > MOST_EVIDENCE:
            evidence = (evidence[0], *evidence[1 - MOST_EVIDENCE :])
        is_put_off = relation.is_plan and fact.occurred_at >= known.occurred_at  # then its time is the newer one
        told = fact if is_put_off else known
        gate = max(gate_of(known.confidence, len(known.evidence_ids)), gate_of(fact.confidence, 1))
        self._known.put(
            replace(
                known,
                text=told.text,
                token_count=told.token_count,
                evidence_ids=evidence,
                confidence=confidence(gate, len(evidence)),
                occurred_at=max(known.occurred_at, fact.occurred_at),
                valid_from=min(_begins(known), _begins(fact)),
                valid_to=self._ends(known, fact),
            ),
            Action.REINFORCE,
        )
        return Action.REINFORCE

    def _ends(self, known: Memory, fact: Memory) -> int | None:
        """Until when a fact holds that is said again: a plan may be put off, but what was superseded stays so."""
        its = _statement(known)
        if any(known.id in other.supersedes_ids for other in self._known.about(its.subject)):
            return known.valid_to
        ends = [end for end in (known.valid_to, fact.valid_to) if end is not None]
        return max(ends, default=None)

    def _rivals(self, fact: Memory, relation: Relation) -> list[Memory]:
        """Known facts that can't hold together with this one."""
        its = _statement(fact)
        rivals = self._known.about(its.subject, relation.name) if relation.is_single else []
        if relation.opposes:
            rivals += [
                known
                for known in self._known.about(its.subject, relation.opposes)
                if is_same_object(_statement(known).object, its.object, is_single=False)
            ]
        return rivals

    def _neighbours(self, fact: Memory, vector: Vector | None) -> tuple[uuid.UUID, ...]:
        others = [known for known in self._known.about(_statement(fact).subject) if known.id != fact.id]
        together = [known for known in others if set(known.evidence_ids) & set(fact.evidence_ids)]
        nearest = sorted(others, key=lambda known: -self._known.likeness(known, vector))
        return tuple(dict.fromkeys(known.id for known in (*together, *nearest)))[:MOST_RELATED]


def _statement(fact: Memory) -> Statement:
    assert fact.statement is not None, "a fact has a statement"
    return fact.statement


def _begins(fact: Memory) -> int:
    return fact.occurred_at if fact.valid_from is None else fact.valid_from


def _holds_at(fact: Memory, at: int) -> bool:
    return _begins(fact) <= at and (fact.valid_to is None or at < fact.valid_to)


def _overlap(known: Memory, fact: Memory) -> bool:
    """Whether there is a time at which both hold."""
    starts = max(_begins(known), _begins(fact))
    return all(each.valid_to is None or starts < each.valid_to for each in (known, fact))


def _may_be_same_time(known: Memory, fact: Memory, relation: Relation) -> bool:
    """What happened twice is two facts; what is so is one, unless it ended in between."""
    if relation.is_past:
        return abs(_begins(known) - _begins(fact)) <= DAY_MICROS
    return known.valid_to is None or _begins(fact) < known.valid_to
