"""What is known of a user, as integration compares with it: facts by subject and relation, and by vector.

The facts of a run are integrated one after another, and each sees what the ones before it did.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lightmem_server.pipeline.consolidation.words import content_keys
from lightmem_server.types import Memory, State

Vector = NDArray[np.float32]


def subject_key(subject: str) -> str:
    """What subjects are compared by."""
    return " ".join(subject.casefold().replace("\u2019", "'").split())


@dataclass(slots=True)
class Known:
    """The facts of one user. `put` replaces the fact of the same id.

    Attributes:
        facts: By id.
        vectors: (dim,) of each fact's text, by id; a fact without one is compared by words alone.
    """

    facts: dict[uuid.UUID, Memory] = field(default_factory=dict)
    vectors: dict[uuid.UUID, Vector] = field(default_factory=dict)
    _changed: dict[uuid.UUID, str] = field(default_factory=dict)
    _stored: dict[uuid.UUID, Memory] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: Iterable[Memory], vectors: Mapping[uuid.UUID, Vector]) -> Known:
        """What the store holds; archived facts are as good as unknown."""
        stored = {fact.id: fact for fact in facts if fact.state is State.ACTIVE and fact.statement is not None}
        return cls(dict(stored), dict(vectors), _stored=stored)

    def about(self, subject: str, relation: str | None = None) -> list[Memory]:
        """Facts with this subject, and relation where one is given; oldest first."""
        key = subject_key(subject)
        found = [
            fact
            for fact in self.facts.values()
            if fact.statement is not None
            and subject_key(fact.statement.subject) == key
            and relation in (None, fact.statement.relation)
        ]
        return sorted(found, key=lambda fact: (fact.valid_from or fact.occurred_at, fact.id))

    def likeness(self, fact: Memory, vector: Vector | None) -> float:
        """Cosine of a fact's text and another's; 0 where one has no vector."""
        its = self.vectors.get(fact.id)
        return float(its @ vector) if its is not None and vector is not None else 0.0

    def put(self, fact: Memory, reason: str, vector: Vector | None = None) -> None:
        """Add a fact, or say what one has become; its version is seen to here."""
        self.facts[fact.id] = fact
        self._changed.setdefault(fact.id, reason)
        if vector is not None:
            self.vectors[fact.id] = vector

    def changes(self) -> tuple[Sequence[Memory], dict[uuid.UUID, str]]:
        """The facts to store, each one version on, and why; from then on they count as stored."""
        puts: list[Memory] = []
        reasons: dict[uuid.UUID, str] = {}
        for id_, reason in self._changed.items():
            before, fact = self._stored.get(id_), self.facts[id_]
            if before == fact:
                continue
            stored = replace(fact, version=1 if before is None else before.version + 1)
            self.facts[id_] = self._stored[id_] = stored
            puts.append(stored)
            reasons[id_] = reason
        self._changed.clear()
        return puts, reasons


def is_same_object(one: str, other: str, *, is_single: bool) -> bool:
    """Whether two objects of one subject and relation are the same thing, said with other words around it.

    Args:
        is_single: There is one at a time, so that the more exact of two that agree is meant: "Lisbon", "the old town of
            Lisbon".
    """
    left, right = content_keys(one), content_keys(other)
    if not left or not right:
        return one.casefold() == other.casefold()
    return left == right or (is_single and (left < right or right < left))
