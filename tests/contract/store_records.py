"""Records and changes for tests of stores."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lightmem_server.store.protocol import Change, Store, VectorRecord
from lightmem_server.types import Kind, Memory, Partition, Role, State, Statement, Tier

USER = Partition("default", "ada")

MODEL = "bge-small-en-v1.5@int8"

MakeStore = Callable[[], Store]

_numbers = itertools.count(1)


def make_id() -> uuid.UUID:
    """An id that was not made before in this process."""
    return uuid.UUID(int=next(_numbers))


def make_memory(text: str = "I moved to Lisbon.", **fields: Any) -> Memory:
    """A turn; `fields` override."""
    values: dict[str, Any] = {
        "id": make_id(),
        "tier": Tier.MTM,
        "kind": Kind.TURN,
        "text": text,
        "occurred_at": 1_700_000_000_000_000,
        "created_at": 1_700_000_000_000_001,
    }
    return Memory(**(values | fields))


def make_full_memory() -> Memory:
    """A record with no field at its default."""
    return make_memory(
        "Sie sagte: „Straße 7\", 北京 \U0001f600 \\ '; DROP TABLE memory; --\n\ttab",
        tier=Tier.LTM,
        kind=Kind.FACT,
        agent_id="agent'1",
        session_id='session "2"',
        speaker="Ada Lövelace",
        role=Role.TOOL,
        valid_from=-5,
        valid_to=2**62,
        confidence=0.1 + 0.2,
        statement=Statement("Ada", "lives in", '北京 | "x"'),
        participants=("Ada", "Bob|Ö"),
        evidence_ids=(make_id(), make_id()),
        supersedes_ids=(make_id(),),
        previous_id=make_id(),
        metadata={
            "text": "ü",
            "int": 2**63 - 1,
            "float": 1.0,
            "bool": True,
            "negative": -0.5,
            "zero": 0,
            "false": False,
        },
        is_pinned=True,
        expires_at=0,
        state=State.ARCHIVED,
        token_count=17,
        access_count=3,
        last_accessed_at=9,
    )


def make_vector(memory: Memory, *, seed: int = 0, model: str = MODEL) -> VectorRecord:
    """Two views of four dimensions."""
    return VectorRecord(memory.id, model, np.random.default_rng(seed).normal(size=(2, 4)).astype(np.float32))


def make_change(
    memories: Sequence[Memory] = (), *, partition: Partition = USER, with_vectors: bool = True, **fields: Any
) -> Change:
    """A change that puts records with their vectors."""
    vectors = [make_vector(memory, seed=i) for i, memory in enumerate(memories)] if with_vectors else []
    return Change(partition, puts=memories, vectors=vectors, **fields)
