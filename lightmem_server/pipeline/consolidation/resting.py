"""What a deletion takes along: nothing that was made of a memory's words may outlive it.

summary, profile   goes: its text is made of all that it rests on; the next run tells it anew
fact               goes with the turn that it was worded from; of another supporting turn it loses a witness
"No longer: …"     goes with the fact that it quotes
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lightmem_server.pipeline.consolidation.confidence import confidence, gate_of
from lightmem_server.pipeline.consolidation.integrate import ENDED
from lightmem_server.store.protocol import Store
from lightmem_server.types import Kind, Memory, Partition


@dataclass(frozen=True, slots=True)
class Resting:
    """What goes with a memory, and the facts that lose a witness, each one version on."""

    gone: Sequence[uuid.UUID]
    changed: Sequence[Memory]


async def find_resting(store: Store, partition: Partition, memory: Memory) -> Resting:
    """What rests on a memory, on what rests on it, and so on.

    Raises:
        StoreError.
    """
    gone: dict[uuid.UUID, None] = {}
    changed: dict[uuid.UUID, Memory] = {}
    waiting = [memory.id]
    while waiting:
        id_ = waiting.pop()
        for stored in await store.find_dependents(partition, id_):
            dependent = changed.get(stored.id, stored)
            if stored.id in gone or stored.id == memory.id:
                continue
            if _goes(dependent, id_):
                gone[stored.id] = None
                changed.pop(stored.id, None)
                waiting.append(stored.id)
            elif id_ in dependent.evidence_ids:
                changed[stored.id] = _without(dependent, id_, version=stored.version + 1)
    return Resting(tuple(gone), tuple(changed.values()))


def _goes(dependent: Memory, id_: uuid.UUID) -> bool:
    if dependent.kind is not Kind.FACT:
        return id_ in dependent.evidence_ids
    if dependent.statement is not None and dependent.statement.relation == ENDED and id_ in dependent.supersedes_ids:
        return True
    return dependent.evidence_ids[:1] == (id_,)


def _without(fact: Memory, id_: uuid.UUID, *, version: int) -> Memory:
    evidence = tuple(each for each in fact.evidence_ids if each != id_)
    gate = gate_of(fact.confidence, len(fact.evidence_ids))
    return replace(fact, evidence_ids=evidence, confidence=confidence(gate, len(evidence)), version=version)
