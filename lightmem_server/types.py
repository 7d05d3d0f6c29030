"""Domain types: what the layers below the services speak. No gRPC, no protobuf, no I/O.

Times are whole microseconds since 1970-01-01T00:00:00Z (`*_at`, `*_from`, `*_to`), `None` where unset. Enum numbers
are those of proto/lightmem/v1 and of the Rust core.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool
"""A metadata value. `bool` is a type of its own here: True never equals 1."""

NO_METADATA: Mapping[str, Scalar] = MappingProxyType({})

SHARED_USER = "*"
"""The user id of a namespace's shared LTM; no real user may be called so."""


class Tier(IntEnum):
    """Which store of the memory hierarchy holds a record."""

    STM = 1
    MTM = 2
    LTM = 3


class Kind(IntEnum):
    """What a record is."""

    TURN = 1
    SUMMARY = 2
    FACT = 3
    PROFILE = 4


class Role(IntEnum):
    """Who spoke a turn, in the sense of chat APIs. NONE is for records that nobody said."""

    NONE = 0
    USER = 1
    ASSISTANT = 2
    SYSTEM = 3
    TOOL = 4


class State(IntEnum):
    """Whether a record takes part in retrieval."""

    ACTIVE = 1
    ARCHIVED = 2


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One user of one namespace: the unit of isolation, of versions and of residence in memory."""

    namespace: str
    user_id: str

    @property
    def key(self) -> str:
        """A string that names the partition and no other: the length keeps ("a/b", "c") apart from ("a", "b/c")."""
        return f"{len(self.namespace)}:{self.namespace}/{self.user_id}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as a client sends it, validated. `occurred_at` None: when the server received it."""

    text: str
    occurred_at: int | None = None
    speaker: str = ""
    role: Role = Role.USER
    metadata: Mapping[str, Scalar] = field(default_factory=lambda: NO_METADATA)
    is_pinned: bool = False
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What a fact says, in the parts by which facts are compared."""

    subject: str
    relation: str
    object: str


@dataclass(frozen=True, slots=True)
class Memory:
    """One record of the memory. `version` counts its changes from 1; access statistics don't count as changes."""

    id: uuid.UUID
    tier: Tier
    kind: Kind
    text: str
    occurred_at: int
    created_at: int
    agent_id: str = ""
    session_id: str = ""
    speaker: str = ""
    role: Role = Role.NONE
    valid_from: int | None = None
    valid_to: int | None = None
    confidence: float = 1.0
    statement: Statement | None = None
    participants: tuple[str, ...] = ()
    """Who took part in what a summary tells of."""
    evidence_ids: tuple[uuid.UUID, ...] = ()
    supersedes_ids: tuple[uuid.UUID, ...] = ()
    related_ids: tuple[uuid.UUID, ...] = ()
    """Facts near to this one: told by the same turn, or of the same subject."""
    previous_id: uuid.UUID | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=lambda: NO_METADATA)
    is_pinned: bool = False
    expires_at: int | None = None
    state: State = State.ACTIVE
    token_count: int = 0
    """Tokens of `text` with the embedder's tokenizer, counted once when written."""
    version: int = 1
    access_count: int = 0
    last_accessed_at: int | None = None


class Operator(IntEnum):
    """How a record's metadata value compares with a condition's values."""

    EQ = 1
    NE = 2
    GT = 3
    GTE = 4
    LT = 5
    LTE = 6
    IN = 7
    CONTAINS = 8


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. A record that lacks the key, or holds another type, does not match, whatever the operator."""

    key: str
    operator: Operator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds when all of its expressions do."""

    filters: tuple[MetadataExpression, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds when at least one of its expressions does."""

    filters: tuple[MetadataExpression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Holds when its expression does not."""

    filter: MetadataExpression


MetadataExpression: TypeAlias = Condition | AllOf | AnyOf | Not


@dataclass(frozen=True, slots=True)
class MemoryFilter:
    """Which records an operation considers. Empty fields don't restrict; several hold together."""

    tiers: frozenset[Tier] = frozenset()
    kinds: frozenset[Kind] = frozenset()
    session_ids: frozenset[str] = frozenset()
    agent_ids: frozenset[str] = frozenset()
    occurred_from: int | None = None
    occurred_to: int | None = None
    as_of: int | None = None
    metadata: MetadataExpression | None = None
    include_archived: bool = False
