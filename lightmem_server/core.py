"""The one Python door to the Rust core: options and results of `_core`, as typed dataclasses.

Only this module changes when the binding changes. Everything that crosses is a batch: columns of n rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lightmem_server import _core
from lightmem_server._core import CoreError as NativeCoreError
from lightmem_server._core import Engine as NativeEngine
from lightmem_server._core import SnapshotError as NativeSnapshotError
from lightmem_server._core import TierBook as NativeTierBook
from lightmem_server.errors import CoreError, SnapshotError
from lightmem_server.types import MetadataExpression, Scalar

Vectors: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.uint8]

HEAT_HALF_LIFE = 7 * 24 * 3600 * 1_000_000
"""Microseconds in which access heat halves."""

# Shared by all results without duplicates.
NO_IDS: Ids = np.empty((0, 16), np.uint8)
NO_POSITIONS: NDArray[np.uint32] = np.empty(0, np.uint32)

PARTS_BESIDE_LISTS = ("session", "prior", "speaker", "time", "heat", "link")
"""What a fused score is made of besides the lists, in the order of SearchResult.parts."""

NEVER = np.iinfo(np.int64).max
ALWAYS = np.iinfo(np.int64).min

UNBOUNDED = 2**62
"""A capacity that no tier reaches."""


@dataclass(frozen=True, slots=True)
class Rows:
    """n rows as columns, in commit order (STM rings and ties follow it).

    Attributes:
        ids: (n, 16) uint8.
        vectors: (n, views, dim) float32, each of unit length or all zero (never found by a dense list).
        texts: n lists of `views` strings: what the lexical lists index, per view.
        tiers, kinds: (n,) uint8, numbers of types.Tier and types.Kind.
        sessions, agents: n strings, "" for none.
        occurred_at: (n,) int64 microseconds.
        valid_from, valid_to: (n,) int64; ALWAYS and NEVER where not limited. A row is valid at t when from <= t < to.
        expires_at: (n,) int64; NEVER where it doesn't. Not found at t >= expires_at.
        token_counts: (n,) uint32, for the STM rings.
        is_archived, is_pinned: (n,) bool. Archived rows are never found by search.
        in_ring: (n,) bool: whether the row belongs to its session's STM ring (turns do).
        metadata: n dicts.
        orders: (n,) uint64, ascending: the commit order of the row's first version. A changed row keeps it.
        speakers: n strings, "" for nobody; empty: nobody at all.
        priors: (n,) float32 within 1000 of 0, how informative each row is in itself; None: all 0.
        session_texts: n strings, what each row adds to its session's document; empty: nothing.
        links: n bytes, the ids (16 bytes each) of what each row rests on, resident or not; empty: no links at all.
        heats, heats_since: (n,) float32 and int64 microseconds: access heat and when it was that, of rows that are new; a
            row that is resident keeps its own. None: no heat.
    """

    ids: Ids
    vectors: Vectors
    texts: Sequence[Sequence[str]]
    tiers: NDArray[np.uint8]
    kinds: NDArray[np.uint8]
    sessions: Sequence[str]
    agents: Sequence[str]
    occurred_at: NDArray[np.int64]
    valid_from: NDArray[np.int64]
    valid_to: NDArray[np.int64]
    expires_at: NDArray[np.int64]
    token_counts: NDArray[np.uint32]
    is_archived: NDArray[np.bool_]
    is_pinned: NDArray[np.bool_]
    in_ring: NDArray[np.bool_]
    metadata: Sequence[dict[str, Scalar]]
    orders: NDArray[np.uint64]
    speakers: Sequence[str] = ()
    priors: NDArray[np.float32] | None = None
    session_texts: Sequence[str] = ()
    links: Sequence[bytes] = ()
    heats: NDArray[np.float32] | None = None
    heats_since: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """What a search considers; empty lists don't restrict. Archived, removed, expired and (at `now` or `as_of`)
    invalid rows are never considered."""

    tiers: Sequence[int] = ()
    kinds: Sequence[int] = ()
    sessions: Sequence[str] = ()
    agents: Sequence[str] = ()
    occurred_from: int = ALWAYS
    occurred_to: int = NEVER
    as_of: int | None = None
    metadata: MetadataExpression | None = None


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """One hybrid search: every query view against every passage view, dense and lexical, in lists that are fused.

    With `fusion="score"` a row that any list holds scores, over all lists, the sum of weight * its score on the list's own
    scale, 0 to 1: from the mean cosine of the rows considered to the best one, or from no shared term to the
    best BM25. Added are `session_weight` * BM25 of its whole session (the best session's 1), `prior_weight` * its
    prior, `speaker_boost` when its speaker is among `speakers`, `heat_weight` *
    h / (1 + h) of its access heat h, and `boost` when `boost_from <= occurred_at <
    boost_to`. With `fusion="rrf"` it scores the sum of weight / (rrf_k + rank), rank from 1, and `boost / (rrf_k + 1)`;
    the other additions don't count. With either, each of the best `link_depth` rows passes its score, in equal shares,
    on to the rows that it is linked to (Rows.links, in either direction); they gain `link_weight` * the sum of their
    shares, and are found even if no list holds them. A list's weight is its query view's times its passage view's.
    Ties by `orders`, newer first.

    Attributes:
        vectors: (q, dim) float32, unit length; q may be 0 (lexical alone).
        texts: lexical query views; may be empty (dense alone).
        vector_weights, text_weights: one weight per query view.
        dense_weights, lexical_weights: one weight per passage view; 0 leaves the list out.
        list_depth: entries taken from each list before fusion, at least 1.
        max_candidates: most hits to return, at least 1.
        now: microseconds; for expiry and, without `filter.as_of`, validity.
        deadline_micros: stop scanning after this long and say so; 0: no limit.
        link_weight: 0: no score is passed on.
        duplicate_similarity: a hit repeats a better one of the same speaker, and is reported instead of returned, from this
            cosine on in every passage view, 0 to 1; 0: none does.
        rescore: candidates of each dense list rescored at full precision; 0: the core's default for `list_depth`.
    """

    vectors: Vectors
    texts: Sequence[str]
    vector_weights: Sequence[float]
    text_weights: Sequence[float]
    dense_weights: Sequence[float]
    lexical_weights: Sequence[float]
    list_depth: int
    max_candidates: int
    now: int
    rrf_k: float = 60.0
    filter: SearchFilter = field(default_factory=SearchFilter)
    boost: float = 0.0
    boost_from: int = ALWAYS
    boost_to: int = ALWAYS
    deadline_micros: int = 0
    rescore: int = 0
    fusion: Literal["score", "rrf"] = "rrf"
    speakers: Sequence[str] = ()
    speaker_boost: float = 0.0
    prior_weight: float = 0.0
    session_weight: float = 0.0
    heat_weight: float = 0.0
    link_weight: float = 0.0
    link_depth: int = 8
    duplicate_similarity: float = 0.0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """m hits, best first.

    Attributes:
        ids: (m, 16) uint8.
        scores: (m,) float32, the fused score.
        sources: names of the s lists: "dense_NAME" for each passage view, then "lexical_NAME" for each.
        ranks: (m, s) uint32: the best rank over the query views, from 1; 0 where the list doesn't hold the row.
        parts: (m, p) float32: what each score is made of, named by `part_names`; score = sum of weight * part. Before
            the plan's weight of it: of a list its score on the list's own scale, summed over the query views by their
            weights; of the session likewise; the prior; 1 or 0 for the speaker and the time; h / (1 + h) of the heat.
            0 for a list that
            the plan left out; what linked rows passed on. With reciprocal ranks p is 0.
        similarities: (m,) float32: cosine of the first query view with view 0, computed at full precision; nan
            without vectors.
        matched_count: rows that passed the filter, of those scanned.
        scanned_count: rows looked at; fewer than resident only when the deadline cut the scan.
        is_complete: False when the deadline cut the scan.
        is_exact: False when a graph filled a dense list, which may then miss some of the best.
        duplicate_ids: (k, 16) uint8, what was left out for repeating a hit.
        duplicate_of: (k,) uint32, the positions of the hits repeated.
    """

    ids: Ids
    scores: Vectors
    sources: list[str]
    ranks: NDArray[np.uint32]
    parts: Vectors
    similarities: Vectors
    matched_count: int
    scanned_count: int
    is_complete: bool
    is_exact: bool
    duplicate_ids: Ids = field(default_factory=lambda: NO_IDS)
    duplicate_of: NDArray[np.uint32] = field(default_factory=lambda: NO_POSITIONS)

    @property
    def part_names(self) -> list[str]:
        """Names of the columns of `parts`: the sources, then PARTS_BESIDE_LISTS."""
        return [*self.sources, *PARTS_BESIDE_LISTS] if self.parts.shape[1] else []


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Figures of the resident set; sizes in bytes, the rest counts since start."""

    partitions: int
    rows: int
    size_bytes: int
    budget_bytes: int
    evictions: int
    loads: int
    searches: int


@dataclass(frozen=True, slots=True)
class PartitionSizes:
    """Bytes of one partition: vectors as scanned and what rescoring reads besides, terms and postings, scalar columns,
    links, and metadata with names and rings."""

    vectors_scan: int
    vectors_rescore: int
    postings: int
    columns: int
    links: int
    metadata: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.vectors_scan + self.vectors_rescore + self.postings + self.columns + self.links + self.metadata


class Engine:
    """The resident partitions of this process. Every call is thread-safe, synchronous and releases the GIL; on the event
    loop, run it in a thread.

    Raises (every method):
        CoreError: the input was refused, nothing was changed.
    """

    def __init__(
        self,
        *,
        dim: int,
        budget_bytes: int,
        stm_turns: int,
        stm_tokens: int,
        language: str = "english",
        view_names: Sequence[str] = ("turn", "window"),
        ann_rows: int = 0,
        heat_half_life: int = HEAT_HALF_LIFE,
        rescore_vectors: bool = True,
    ) -> None:
        """
        Args:
            ann_rows: Rows from which on a partition is due for graphs; 0: never.
        """
        self.dim = dim
        self.views = len(view_names)
        try:
            self._native = NativeEngine(
                dim=dim,
                view_names=list(view_names),
                budget_bytes=budget_bytes,
                language=language,
                stm_turns=stm_turns,
                stm_tokens=stm_tokens,
                ann_rows=ann_rows,
                heat_half_life=heat_half_life,
                rescore_vectors=rescore_vectors,
            )
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def version(self, partition: str) -> int | None:
        """The version up to which a partition is resident; None when it is not resident."""
        return self._native.version(partition)

    def load(self, partition: str, version: int, rows: Rows, language: str | None = None) -> None:
        """Make a partition resident with these rows, replacing what was there. `language` of its texts: "none" or a name
        that Snowball knows; None: the engine's."""
        try:
            self._native.load(partition, version, rows, language)
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def apply(self, partition: str, base_version: int, version: int, rows: Rows, removed: Ids) -> bool:
        """Bring a resident partition from `base_version` to `version`; False when it isn't resident at the first."""
        try:
            return self._native.apply(partition, base_version, version, rows, removed)
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def search(self, partition: str, plan: SearchPlan) -> SearchResult | None:
        """Search one partition; None when it is not resident."""
        try:
            result = self._native.search(partition, plan)
        except NativeCoreError as error:
            raise CoreError(str(error)) from error
        return None if result is None else SearchResult(**result)

    def session_ring(self, partition: str, session_id: str) -> list[bytes] | None:
        """The 16-byte ids in a session's STM ring, oldest first; None when the partition is not resident."""
        return self._native.session_ring(partition, session_id)

    def check_language(self, language: str) -> None:
        """Refuse a language that no partition could be loaded with."""
        try:
            self._native.check_language(language)
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def touch(self, partition: str, ids: Ids, now: int) -> bool:
        """Note an access of rows at `now`, microseconds: heat is a statistic and changes no version. Ids that aren't
        resident are ignored; False when the partition isn't."""
        return self._native.touch(partition, ids, now)

    def sizes(self, partition: str) -> PartitionSizes | None:
        """What a partition's memory goes to; None when it is not resident."""
        sizes = self._native.sizes(partition)
        return None if sizes is None else PartitionSizes(**sizes)

    def active_counts(self, partition: str) -> list[int] | None:
        """Rows in search by tier number, 0 to 3; None when the partition is not resident."""
        return self._native.active_counts(partition)

    def evict(self, partition: str) -> bool:
        """Drop a partition from memory; False when it was not resident."""
        return self._native.evict(partition)

    def export(self, partition: str) -> bytes | None:
        """A partition as bytes, versioned and checksummed; None when it is not resident."""
        try:
            return self._native.export(partition)
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def import_(self, partition: str, snapshot: bytes, language: str | None = None) -> int:
        """Make a partition resident from bytes that `export` gave, replacing what was there; returns its version.

        Raises:
            SnapshotError: It is damaged or foreign, or in another language than wanted: load from the store instead.
        """
        try:
            return self._native.import_(partition, snapshot, language)
        except NativeSnapshotError as error:
            raise SnapshotError(str(error)) from error
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def ann_due(self, partition: str) -> bool:
        """Whether `build_ann` should work on a partition: it is large and has no graphs, or was changed much since."""
        try:
            return self._native.ann_due(partition)
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def build_ann(self, partition: str, rows: int) -> bool:
        """Work on a partition's graphs for about `rows` rows, half a millisecond each and view; True when more is to do.

        Searches and writes go on meanwhile; searches are exact until the graphs are ready. False when the partition isn't
        resident, is too small, or has graphs that hold every row.
        """
        try:
            return self._native.build_ann(partition, rows)
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def stats(self) -> EngineStats:
        """Figures of the resident set."""
        return EngineStats(**self._native.stats())


class TierEvent(IntEnum):
    """What happened to a memory, and the columns of `TierEvents` that say it."""

    ADDED = 1
    """times: when it was made; counts: its tokens; and all columns that follow."""
    ACCESSED = 2
    """times: the last time; counts: how often."""
    PINNED = 3
    UNPINNED = 4
    SUPPORTED = 5
    """counts: how many memories rest on it now."""
    CONSOLIDATED = 6
    ARCHIVED = 7
    RESTORED = 8
    REMOVED = 9
    PASSED = 10
    """times: how late it is at least; of no memory."""


@dataclass(frozen=True, slots=True)
class TierEvents:
    """n events as columns, in the order in which they happened. One that names a memory that is not held changes nothing.

    Attributes:
        kinds: (n,) uint8, numbers of TierEvent.
        ids: (n, 16) uint8, whose.
        times: (n,) int64 microseconds.
        counts: (n,) uint32.
        sessions: n strings, "" for none.
        orders: (n,) uint64: commit order.
        tiers: (n,) uint8, numbers of types.Tier.
        occurred_at: (n,) int64 microseconds.
        confidences: (n,) float32, 0 to 1.
        is_turn: (n,) bool: whether it is part of its session's STM ring.
    """

    kinds: NDArray[np.uint8]
    ids: Ids
    times: NDArray[np.int64]
    counts: NDArray[np.uint32]
    sessions: Sequence[str]
    orders: NDArray[np.uint64]
    tiers: NDArray[np.uint8]
    occurred_at: NDArray[np.int64]
    confidences: Vectors
    is_turn: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TierPolicy:
    """How tiers are decided.

    Attributes:
        half_life: Microseconds in which heat and recency halve; 0: never.
        capacity: Most memories in search, by tier number, 0 to 3.
        promote_heat: Heat at which a memory is due for promotion.
        summarise_turns: Turns of a session, out of its ring and not consolidated, at which it is due for a summary.
        stm_turns, stm_tokens: Bounds of a session's STM ring.
    """

    half_life: int
    capacity: list[int]
    promote_heat: float
    summarise_turns: int
    stm_turns: int
    stm_tokens: int


@dataclass(frozen=True, slots=True)
class TierDecisions:
    """What should happen: sessions due for a summary; ids due for promotion, hottest first; ids to archive, least useful
    first."""

    summarise: list[str]
    promote: list[bytes]
    archive: list[bytes]


class TierBook:
    """What is known of one user's memories, by replaying what happened to them: the same history gives the same decisions.

    Thread-safe, and releases the GIL. Raises (every method) CoreError: the input was refused, nothing was changed.
    """

    def __init__(self, policy: TierPolicy) -> None:
        try:
            self._native = NativeTierBook(**asdict(policy))
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def replay(self, events: TierEvents) -> None:
        """Note what happened, all or nothing."""
        try:
            self._native.replay(events)
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def session_ring(self, session_id: str) -> list[bytes]:
        """The 16-byte ids in a session's STM ring, oldest first."""
        return self._native.session_ring(session_id)

    def heats(self, ids: Ids) -> NDArray[np.float64]:
        """(n,) heat as of the last event's time; nan for ids that are not held."""
        try:
            return self._native.heats(ids)
        except NativeCoreError as error:
            raise CoreError(str(error)) from error

    def counts(self) -> dict[int, tuple[int, int]]:
        """By tier number, how many memories are in search and how many archived."""
        return {tier: (active, archived) for tier, active, archived in self._native.counts()}

    def decide(self) -> TierDecisions:
        """What should happen as of the last event's time."""
        return TierDecisions(**self._native.decide())


def cpu_features() -> list[str]:
    """The instruction sets that the kernels use on this machine, best first."""
    return _core.cpu_features()
