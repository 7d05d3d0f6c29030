"""What a retrieval takes and gives, as the pipeline speaks of it."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from enum import IntEnum
from typing import TypeAlias

from lightmem_server.core import SearchPlan
from lightmem_server.slm.controller import Plan
from lightmem_server.types import Memory, MemoryFilter, Partition


class SelectorMode(IntEnum):
    """How much the Selector may do."""

    OFF = 1
    FAST = 2
    FULL = 3


class DropReason(IntEnum):
    """Why a candidate was not returned."""

    MAX_MEMORIES = 1
    MAX_TOKENS = 2
    MIN_RELEVANCE = 3
    DUPLICATE = 4
    IN_CONTEXT = 5
    GONE = 6
    COVERED = 7
    SUPERSEDED = 8
    SHARED_UNSURE = 9


class SelectorStop(IntEnum):
    """Why the Selector read no further."""

    OFF = 1
    DONE = 2
    CERTAIN = 3
    DEADLINE = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """What a retrieval may cost: candidates judged, memories and tokens returned, seconds from arrival to answer."""

    max_memories: int
    max_candidates: int
    max_tokens: int
    deadline_seconds: float


@dataclass(frozen=True, slots=True)
class RetrieveQuery:
    """One validated RetrieveRequest. `arrived_at` is monotonic seconds; `asked_at` microseconds of the epoch."""

    partition: Partition
    query: str
    budget: Budget
    asked_at: int
    arrived_at: float
    session_id: str = ""
    filter: MemoryFilter = field(default_factory=MemoryFilter)
    zone: tzinfo = UTC
    selector_mode: SelectorMode = SelectorMode.FAST
    min_relevance: float = 0.0
    include_coarse: bool = False
    exclude_context: bool = False
    exclude_shared: bool = False
    exclude_trace: bool = False
    tokenizer: str = ""
    hypothetical_queries: int = 0


@dataclass(slots=True)
class Candidate:
    """A memory on its way through the stages; each stage fills in what it found.

    Attributes:
        parts: What the coarse score is made of, before weights, by the names of core.SearchResult.part_names.
        similarity: Cosine with the query as it was asked; nan without vectors.
        duplicate_of: The better candidate that says the same, or the one that a fact, its evidence or its past is covered by.
    """

    memory_id: uuid.UUID
    coarse_rank: int
    coarse_score: float
    source_ranks: Mapping[str, int]
    parts: Mapping[str, float] = field(default_factory=dict)
    similarity: float = math.nan
    memory: Memory | None = None
    preceding: Sequence[Memory] = ()
    logit: float | None = None
    relevance: float | None = None
    score: float = 0.0
    token_count: int = 0
    drop_reason: DropReason | None = None
    duplicate_of: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage's cost; `name` is stable."""

    name: str
    seconds: float
    item_count: int


@dataclass(frozen=True, slots=True)
class Context:
    """The running conversation, oldest first."""

    turns: Sequence[Memory]


@dataclass(frozen=True, slots=True)
class Coarse:
    """The coarse hits, best first, before the Selector."""

    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Selected:
    """The answer: candidates that were kept, best first, and their text for a prompt. `shared` are facts of the shared LTM."""

    candidates: Sequence[Candidate]
    packed_context: str
    token_count: int
    shared: Sequence[Candidate] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """How the answer came about.

    Attributes:
        candidates: In final order, dropped ones included.
        search: What the core was asked last.
        followed: The first hits whose words were searched for too.
        is_window_filter: Whether only the plan's time window was searched.
        shared: Facts of the shared LTM, as `candidates`.
    """

    plan: Plan
    query: RetrieveQuery
    search: SearchPlan
    stages: Sequence[StageTime]
    candidates: Sequence[Candidate]
    elapsed_seconds: float
    is_cut_by_deadline: bool
    matched_count: int
    is_approximate: bool
    followed: Sequence[uuid.UUID]
    is_window_filter: bool
    selector_stop: SelectorStop
    shared: Sequence[Candidate] = ()


Part: TypeAlias = Context | Coarse | Selected | Trace
