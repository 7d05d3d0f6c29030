"""What the calls return, and what they take beside the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import TypeAlias, TypedDict

from lightmem_client._filters import Expression, MemoryFilter
from lightmem_client._types import Kind, Memory, Scalar, Tier


class SelectorMode(IntEnum):
    """How much the Selector may do in one retrieval. UNSPECIFIED: the server's default, FAST."""

    UNSPECIFIED = 0
    OFF = 1
    """No re-ranking: coarse order."""
    FAST = 2
    """Judges the few best coarse candidates."""
    FULL = 3
    """Reads more of them, while the deadline allows."""


class DropReason(IntEnum):
    """Why a candidate was not returned. UNSPECIFIED: it was."""

    UNSPECIFIED = 0
    MAX_MEMORIES = 1
    MAX_TOKENS = 2
    MIN_RELEVANCE = 3
    DUPLICATE = 4
    IN_CONTEXT = 5
    GONE = 6
    COVERED = 7
    SUPERSEDED = 8
    SHARED_UNSURE = 9


class QueryNeed(IntEnum):
    """What kind of memory a query needs."""

    UNSPECIFIED = 0
    EPISODE = 1
    """Something that happened, or was said, at some time."""
    KNOWLEDGE = 2
    """Something that is so: a preference, a relation, a habit."""


class SelectorStop(IntEnum):
    """Why the Selector read no further."""

    UNSPECIFIED = 0
    OFF = 1
    """It was off, or there was nothing to judge."""
    DONE = 2
    """It read as much as its mode allows."""
    CERTAIN = 3
    """The best `max_memories` could no longer change."""
    DEADLINE = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one retrieval may cost and return. None: the server's default.

    Attributes:
        max_memories: Most memories to return, 1 to 100; the server's default is 10.
        max_candidates: Most candidates that the Selector sees, 1 to 200; default 32.
        max_tokens: Most tokens of the packed context, 1 to 32,768; default 1,024.
        deadline_seconds: How long the answer may take, 0.001 to 10; default 0.15. Late means less judged, never late.
    """

    max_memories: int | None = None
    max_candidates: int | None = None
    max_tokens: int | None = None
    deadline_seconds: float | None = None


class RetrieveOptions(TypedDict, total=False):
    """The keyword arguments of `retrieve` and `retrieve_stream`; leave out what the server's default serves."""

    max_memories: int
    """Most memories to return, 1 to 100."""
    max_candidates: int
    """Most candidates that the Selector sees, 1 to 200, at least max_memories."""
    max_tokens: int
    """Most tokens of the packed context, 1 to 32,768."""
    deadline_seconds: float
    """How long the server may take, 0.001 to 10. What isn't judged by then keeps its coarse order."""
    filter: MemoryFilter | Expression
    """Which memories to consider; an expression over metadata alone will do."""
    asked_at: datetime
    """The moment to which "yesterday" in the query is relative, with a time zone. Default: the server's clock."""
    time_zone: str
    """IANA name of the user's time zone, such as "Europe/Berlin". Default: UTC."""
    selector_mode: SelectorMode
    """How much the Selector may do."""
    min_relevance: float
    """Memories with a lower relevance are not returned, 0 to 1."""
    include_coarse: bool
    """Also return the coarse hits, before the Selector judged them."""
    exclude_context: bool
    """Leave the running conversation out of the answer."""
    exclude_shared: bool
    """Leave facts of the shared LTM out of it."""
    exclude_trace: bool
    """Leave the trace out of it: a millisecond less, and 10 KB."""
    hypothetical_queries: int
    """How many guesses at the memory looked for the server's Writer may add, 0 to 4; give it seconds of deadline."""
    tokenizer: str
    """How tokens are counted: a name that the server knows. Default: the embedder's tokenizer."""


class MemoryChanges(TypedDict, total=False):
    """The keyword arguments of `update`: what is given is changed, what is left out stays."""

    metadata: Mapping[str, Scalar]
    """Replaces the whole metadata."""
    is_pinned: bool
    """Whether it is kept from being archived."""
    expires_at: datetime | None
    """From when on it is no longer returned, with a time zone. None: never."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The acknowledgement of one write: its turns are on disk and can be found.

    Attributes:
        request_id: What makes a retry harmless; chosen by the client when the caller gave none.
        memory_ids: The ids of the turns, in their order.
        is_replay: True when it had been stored before and nothing was written now.
    """

    request_id: str
    memory_ids: tuple[str, ...]
    is_replay: bool


@dataclass(frozen=True, slots=True)
class RetrievedMemory:
    """A memory as an answer.

    Attributes:
        score: Higher is better; orders the results of this call alone.
        relevance: The calibrated probability that the memory answers the need, 0 to 1. None in coarse hits.
        token_count: Tokens that its line takes in the packed context.
        shared_by_at_least: Of a fact of the shared LTM: so many users say so, at least. 0: a memory of the user's own.
    """

    memory: Memory
    score: float
    relevance: float | None
    token_count: int
    shared_by_at_least: int = 0


@dataclass(frozen=True, slots=True)
class TracePlan:
    """What the Controller planned.

    Attributes:
        is_personal: It is about somebody, rather than about the world.
        is_list: Several memories are asked for.
        is_multi_hop: Several memories have to be joined: what the first hits speak of was then searched for too.
        is_broad: A summary answers better than a single turn: summaries and profiles were then searched too.
        asks_when: A time is asked for: memories that speak of one are then preferred.
        is_window_filter: The time window restricted the search; else it only favours.
        judged_query: The wording that the Selector read.
    """

    query_views: tuple[str, ...]
    window_from: datetime | None
    window_to: datetime | None
    window_text: str
    budget: Budget
    selector_mode: SelectorMode
    need: QueryNeed = QueryNeed.UNSPECIFIED
    is_personal: bool = False
    is_list: bool = False
    is_multi_hop: bool = False
    is_broad: bool = False
    asks_when: bool = False
    is_window_filter: bool = False
    judged_query: str = ""


@dataclass(frozen=True, slots=True)
class TraceStage:
    """One stage's cost: its stable name, wall-clock time, and how many items it worked on."""

    name: str
    elapsed_seconds: float
    item_count: int


@dataclass(frozen=True, slots=True)
class TraceCandidate:
    """What happened to one candidate. Ranks count from 1.

    Attributes:
        source_ranks: Name of each list that held it, such as "dense_turn", to its rank there.
        logit: The Selector's raw output. None: not judged.
        final_score: What the final order goes by.
        relevance: The calibrated probability that it answers the need. None: there is none.
        score_parts: Name of each part of the coarse score to what it added, before its weight.
        duplicate_of: The better candidate that says the same; "" for none.
    """

    memory_id: str
    coarse_rank: int
    coarse_score: float
    source_ranks: Mapping[str, int]
    logit: float | None
    final_score: float
    final_rank: int
    drop_reason: DropReason
    relevance: float | None = None
    score_parts: Mapping[str, float] = field(default_factory=dict)
    duplicate_of: str = ""


@dataclass(frozen=True, slots=True)
class RetrievalTrace:
    """How a retrieval came to its answer.

    Attributes:
        candidates: In their final order, dropped ones included; decoded when they are first looked at, as most never are.
        elapsed_seconds: From the request's arrival at the server to this message.
        is_cut_by_deadline: Some candidates were not judged, or rows not scanned.
        matched_count: Active records of the user that passed the filter.
        is_approximate: The partition is so large that a graph stood in for a scan; it may miss some of the nearest.
        followed_memory_ids: The first hits whose words were searched for in a second pass.
        shared_candidates: Those of the shared LTM; they are in no count.
    """

    plan: TracePlan
    stages: tuple[TraceStage, ...]
    candidates: Sequence[TraceCandidate]
    elapsed_seconds: float
    is_cut_by_deadline: bool
    matched_count: int
    selector_stop: SelectorStop = SelectorStop.UNSPECIFIED
    followed_memory_ids: tuple[str, ...] = ()
    is_approximate: bool = False
    shared_candidates: Sequence[TraceCandidate] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one memory is, or is not, among the results of a retrieval.

    Attributes:
        reached_stage: The furthest stage that it reached: a stage of the trace, or "returned".
        text: One sentence for a person.
        margin: What it lacked at the stage where it was lost, in that stage's unit; 0 where there is no such figure.
    """

    reached_stage: str
    text: str
    margin: float
    trace: RetrievalTrace


@dataclass(frozen=True, slots=True)
class ContextPart:
    """The running conversation, oldest first."""

    turns: tuple[Memory, ...]


@dataclass(frozen=True, slots=True)
class CoarsePart:
    """What the coarse stage found, best first."""

    hits: tuple[RetrievedMemory, ...]


@dataclass(frozen=True, slots=True)
class MemoriesPart:
    """What was selected, best first, and the same as text for a prompt."""

    memories: tuple[RetrievedMemory, ...]
    packed_context: str
    token_count: int
    shared_memories: tuple[RetrievedMemory, ...] = ()


RetrievePart: TypeAlias = ContextPart | CoarsePart | MemoriesPart | RetrievalTrace
"""One part of a streamed answer, in this order; the first two only where there are any."""


@dataclass(frozen=True, slots=True)
class RetrieveResult:
    """A whole answer.

    Attributes:
        context: The running conversation of the session, oldest first.
        coarse: The coarse hits, when asked for.
        memories: What was selected, best first.
        packed_context: The conversation's newest turns and the memories as text, with dates and speakers, for a prompt.
        token_count: Tokens of `packed_context`.
        trace: How it came about; None where `exclude_trace` left it out.
        shared_memories: What several users of the namespace say alike, best first; nobody's. Empty unless the server shares.
    """

    context: tuple[Memory, ...]
    coarse: tuple[RetrievedMemory, ...]
    memories: tuple[RetrievedMemory, ...]
    packed_context: str
    token_count: int
    trace: RetrievalTrace | None
    shared_memories: tuple[RetrievedMemory, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordCount:
    """Records of one tier and kind."""

    tier: Tier
    kind: Kind
    active_count: int
    archived_count: int


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that the server has loaded: "embedder" or "selector", its name, and what its vectors are stored under."""

    role: str
    name: str
    identity: str


@dataclass(frozen=True, slots=True)
class DeadJob:
    """Background work that failed too often; `consolidate` tries that of its user again."""

    user_id: str
    kind: str
    attempt_count: int
    error: str
    set_aside_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of the namespace, or of one user of it, and of the server; of the dead jobs the latest ones."""

    user_count: int
    counts: tuple[RecordCount, ...]
    store_size_bytes: int
    resident_partition_count: int
    resident_size_bytes: int
    resident_limit_bytes: int
    models: tuple[LoadedModel, ...]
    server_version: str
    uptime_seconds: float
    pending_job_count: int
    dead_job_count: int = 0
    dead_jobs: tuple[DeadJob, ...] = ()
    shared_fact_count: int = 0


@dataclass(frozen=True, slots=True)
class ConsolidationProgress:
    """One moment of a consolidation run.

    Attributes:
        run_id: The run; "" when it has not begun yet, or when there was nothing new.
        stage: Stable name; "queue" and "wait" while it waits, "done" in the last one.
        done_count, total_count: Items of the stage.
        kept_count: Candidates kept so far.
        rejected: Candidates rejected so far, by the name of the rule.
        remaining_seconds: Estimate to the end of the stage. None: not known yet.
    """

    run_id: str
    stage: str
    done_count: int
    total_count: int
    kept_count: int
    rejected: Mapping[str, int]
    remaining_seconds: float | None


@dataclass(frozen=True, slots=True)
class CancelledConsolidation:
    """What was cancelled: the run that was at work ("" if none was), and how many jobs were dropped."""

    run_id: str
    job_count: int


@dataclass(frozen=True, slots=True)
class UndoneConsolidation:
    """What undoing a run did: records put back, and records removed."""

    restored_count: int
    removed_count: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """The receipt of an erasure.

    Attributes:
        receipt_id: Names it; the server keeps it, without the user's id.
        erased_at: When.
        memory_count, vector_count, job_count: What was removed; 0 where there was nothing left.
        withdrawn_support_count: Shared facts that lost the user's support.
    """

    receipt_id: str
    erased_at: datetime | None
    memory_count: int
    vector_count: int
    job_count: int
    withdrawn_support_count: int


@dataclass(frozen=True, slots=True)
class ExportPart:
    """Some lines of an export, each a JSON object without its line feed, and how many of how many lines have come."""

    lines: tuple[str, ...] = field(repr=False)
    done_count: int
    total_count: int


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did: memories stored, memories that were there already, and how many of those stored got new vectors."""

    imported_count: int
    skipped_count: int
    reembedded_count: int


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """One moment of a backup.

    Attributes:
        stage: Stable name: "copy", "verify", and "done" in the last one.
        done_pages, total_pages: Pages copied, and in all; 0 before they are known.
        path, size_bytes: Of the file on the server's machine, in the last one.
    """

    stage: str
    done_pages: int
    total_pages: int
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryVersion:
    """One version of a memory.

    Attributes:
        memory: The memory as it was from then on.
        changed_at: When it became so.
        cause: What changed it: "write", "update", "archive", "relink", "undo", or the id of a consolidation run.
        explanation: Why, for a person.
    """

    memory: Memory
    changed_at: datetime | None
    cause: str
    explanation: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; the secret is not kept. Empty `user_ids`: all users of the namespace."""

    key_id: str
    label: str
    user_ids: tuple[str, ...]
    is_admin: bool
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key and its secret, which is shown this once."""

    key: ApiKey
    secret: str = field(repr=False)
