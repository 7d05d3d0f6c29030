"""The records: what a turn is, what a memory is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from types import MappingProxyType
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool
"""A metadata value. True is not 1 here: a bool is a type of its own."""

NO_METADATA: Mapping[str, Scalar] = MappingProxyType({})


class Tier(IntEnum):
    """Which store of the memory hierarchy holds a record. UNSPECIFIED: one that this client doesn't know."""

    UNSPECIFIED = 0
    STM = 1
    """The running conversation of one session, verbatim, in order."""
    MTM = 2
    """What happened: verbatim turns as evidence, and episode summaries."""
    LTM = 3
    """What is known: facts with their validity in time, and profiles."""


class Kind(IntEnum):
    """What a record is. UNSPECIFIED: something that this client doesn't know."""

    UNSPECIFIED = 0
    TURN = 1
    SUMMARY = 2
    FACT = 3
    PROFILE = 4


class Role(IntEnum):
    """Who spoke a turn, in the sense of chat APIs. UNSPECIFIED on a turn to write: the server stores USER."""

    UNSPECIFIED = 0
    USER = 1
    ASSISTANT = 2
    SYSTEM = 3
    TOOL = 4


class State(IntEnum):
    """Whether a record takes part in retrieval."""

    UNSPECIFIED = 0
    ACTIVE = 1
    ARCHIVED = 2


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, to write.

    Attributes:
        text: What was said, verbatim; not only white space.
        speaker: Who said it, a name or handle; "" when unknown.
        role: The speaker's role.
        occurred_at: When it was said, with a time zone. None: when the server receives it.
        metadata: What to filter by later: at most 32 keys.
        is_pinned: Never archived for lack of room.
        expires_at: From when on it is no longer returned, with a time zone. None: never.
    """

    text: str
    speaker: str = ""
    role: Role = Role.UNSPECIFIED
    occurred_at: datetime | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=lambda: NO_METADATA)
    is_pinned: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What a fact says, in the parts by which facts are compared."""

    subject: str
    relation: str
    object: str


@dataclass(frozen=True, slots=True)
class Memory:
    """One record of the memory, as the server holds it. Times are in UTC; None where unset.

    Attributes:
        id: UUIDv7 in its 36-character form.
        text: For a TURN exactly what was written.
        occurred_at: When it was said, or when a fact was stated.
        created_at: When it was committed, by the server's clock.
        valid_from: From when on a fact holds. None: not limited.
        valid_to: Until when a fact holds, this moment excluded. None: still holds.
        confidence: How sure the server is of a derived record, 0 to 1; turns have 1.
        evidence_ids: The memories that it rests on; empty for turns.
        supersedes_ids: The older facts that it replaces.
        related_ids: Facts near to it: told by the same turn, or of the same subject.
        previous_id: The turn before it in its session; "" for the first one and for derived records.
        statement: What a FACT says; None for other kinds.
        participants: Who took part in what a SUMMARY tells of; empty for other kinds.
        version: 1 when written, one more with each change; access statistics don't count.
    """

    id: str
    user_id: str
    agent_id: str
    session_id: str
    tier: Tier
    kind: Kind
    text: str
    speaker: str
    role: Role
    occurred_at: datetime | None
    created_at: datetime | None
    valid_from: datetime | None
    valid_to: datetime | None
    confidence: float
    evidence_ids: tuple[str, ...]
    supersedes_ids: tuple[str, ...]
    related_ids: tuple[str, ...]
    previous_id: str
    metadata: Mapping[str, Scalar]
    is_pinned: bool
    expires_at: datetime | None
    version: int
    state: State
    access_count: int
    last_accessed_at: datetime | None
    statement: Statement | None = None
    participants: tuple[str, ...] = ()
