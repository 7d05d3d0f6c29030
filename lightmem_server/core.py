"""The one Python door to the Rust core.

What is written crosses as typed dataclasses of columns, a batch at a time. What a search asks and finds is native
(`SearchFilter`, `SearchPlan`, `SearchResult`; their manual is `_core.pyi`): read and made field by field, it would take longer
than to search a thousand rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lightmem_server import _core
from lightmem_server._core import Engine as NativeEngine
from lightmem_server._core import SearchFilter as SearchFilter
from lightmem_server._core import SearchPlan as SearchPlan
from lightmem_server._core import SearchResult as SearchResult
from lightmem_server._core import TierBook as NativeTierBook
from lightmem_server.types import Scalar

Vectors: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.uint8]

HEAT_HALF_LIFE = 7 * 24 * 3600 * 1_000_000
"""Microseconds in which access heat halves."""

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

    def version(self, partition: str) -> int | None:
        """The version up to which a partition is resident; None when it is not resident."""
        return self._native.version(partition)

    def is_quick(self, partition: str, most_rows: int) -> bool:
        """Whether a read would begin at once and touch at most `most_rows` rows: the partition is resident, not being changed
        now, and no larger. Then it may be read on the event loop; should a change begin in between, the read waits for it."""
        return self._native.is_quick(partition, most_rows)

    def load(self, partition: str, version: int, rows: Rows, language: str | None = None) -> None:
        """Make a partition resident with these rows, replacing what was there. `language` of its texts: "none" or a name
        that Snowball knows; None: the engine's."""
        self._native.load(partition, version, rows, language)

    def apply(self, partition: str, base_version: int, version: int, rows: Rows, removed: Ids) -> bool:
        """Bring a resident partition from `base_version` to `version`; False when it isn't resident at the first."""
        return self._native.apply(partition, base_version, version, rows, removed)

    def search(self, partition: str, plan: SearchPlan) -> SearchResult | None:
        """Search one partition; None when it is not resident."""
        return self._native.search(partition, plan)

    def similarities(self, partition: str, ids: Ids) -> Vectors | None:
        """Cosines of rows with each other in each passage view, (views, n, n); nan where one of the two isn't held or has no
        vector; None when the partition is not resident."""
        return self._native.similarities(partition, ids)

    def session_ring(self, partition: str, session_id: str) -> list[bytes] | None:
        """The 16-byte ids in a session's STM ring, oldest first; None when the partition is not resident."""
        return self._native.session_ring(partition, session_id)

    def check_language(self, language: str) -> None:
        """Refuse a language that no partition could be loaded with."""
        self._native.check_language(language)

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
        return self._native.export(partition)

    def import_(self, partition: str, snapshot: bytes, language: str | None = None) -> int:
        """Make a partition resident from bytes that `export` gave, replacing what was there; returns its version.

        Raises:
            SnapshotError: It is damaged or foreign, or in another language than wanted: load from the store instead.
        """
        return self._native.import_(partition, snapshot, language)

    def ann_due(self, partition: str) -> bool:
        """Whether `build_ann` should work on a partition: it is large and has no graphs, or was changed much since."""
        return self._native.ann_due(partition)

    def build_ann(self, partition: str, rows: int) -> bool:
        """Work on a partition's graphs for about `rows` rows, half a millisecond each and view; True when more is to do.

        Searches and writes go on meanwhile; searches are exact until the graphs are ready. False when the partition isn't
        resident, is too small, or has graphs that hold every row.
        """
        return self._native.build_ann(partition, rows)

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
        self._native = NativeTierBook(**asdict(policy))

    def replay(self, events: TierEvents) -> None:
        """Note what happened, all or nothing."""
        self._native.replay(events)

    def session_ring(self, session_id: str) -> list[bytes]:
        """The 16-byte ids in a session's STM ring, oldest first."""
        return self._native.session_ring(session_id)

    def heats(self, ids: Ids) -> NDArray[np.float64]:
        """(n,) heat as of the last event's time; nan for ids that are not held."""
        return self._native.heats(ids)

    def counts(self) -> dict[int, tuple[int, int]]:
        """By tier number, how many memories are in search and how many archived."""
        return {tier: (active, archived) for tier, active, archived in self._native.counts()}

    def decide(self) -> TierDecisions:
        """What should happen as of the last event's time."""
        return TierDecisions(**self._native.decide())


def cpu_features() -> list[str]:
    """The instruction sets that the kernels use on this machine, best first."""
    return _core.cpu_features()
