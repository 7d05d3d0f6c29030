"""The native module: bindings of the crate lightmem-core. Imported by lightmem_server/core.py alone.

Shapes: n rows, q query views, v passage views per row (`views`), d dimensions (`dim`), m hits. All arrays are
C-contiguous. Every method of `Engine` and `TierBook` releases the GIL while it works. Wrong shapes or dtypes, non-finite
vectors and ids of the wrong length raise `lightmem_server.errors.CoreError`, and change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypedDict, Unpack, final

import numpy as np
from numpy.typing import NDArray

from lightmem_server.types import MetadataExpression

__all__ = ["Engine", "SearchFilter", "SearchPlan", "SearchResult", "TierBook", "cpu_features"]

def cpu_features() -> list[str]:
    """The instruction sets that the kernels use on this machine, best first, such as ["avx512vnni"]."""

@final
class Engine:
    """The resident partitions of one process. Safe to call from many threads at once."""

    def __new__(
        cls,
        *,
        dim: int,
        view_names: list[str],
        budget_bytes: int,
        language: str,
        stm_turns: int,
        stm_tokens: int,
        ann_rows: int,
        heat_half_life: int,
        rescore_vectors: bool,
    ) -> Engine:
        """An empty engine.

        Args:
            dim: Dimensions of a vector, 1 to 4096.
            view_names: Names of the passage views of a row, 1 to 4; results name their lists after them.
            budget_bytes: Partitions beyond it are evicted, least recently used first.
            language: Analyser of the lexical lists; "english" stems with Snowball.
            stm_turns: Most turns in the ring of one session, at least 1.
            stm_tokens: Most tokens in it; the newest turn stays even if it has more.
            ann_rows: Rows from which on a partition is due for graphs; 0: never.
            heat_half_life: Microseconds in which access heat halves.
            rescore_vectors: Keep the low bytes of the vectors, which only rescoring reads: half of the vectors' memory.
        """
    def version(self, partition: str) -> int | None:
        """The version up to which a partition is resident; None when it is not resident."""
    def is_quick(self, partition: str, most_rows: int) -> bool:
        """Whether a read would begin at once and touch at most `most_rows` rows: the partition is resident, not being changed
        now, and no larger. Keeps the GIL: a microsecond."""
    def load(self, partition: str, version: int, rows: Any, language: str | None = None) -> None:
        """Make a partition resident with these rows (a `core.Rows`), replacing what was there; `language` of its texts
        instead of the engine's."""
    def apply(self, partition: str, base_version: int, version: int, rows: Any, removed: NDArray[np.uint8]) -> bool:
        """Bring a resident partition from `base_version` to `version`.

        Args:
            rows: Rows added or changed (a row replaces the one with its id).
            removed: (r, 16) uint8, ids to drop; unknown ones are ignored.

        Returns:
            False, with nothing changed, when the partition is not resident at `base_version`.
        """
    def search(self, partition: str, plan: SearchPlan) -> SearchResult | None:
        """Search one partition; None when it is not resident."""
    def similarities(self, partition: str, ids: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Cosines of rows with each other, (views, r, r), of (r, 16) uint8 ids: nan where one isn't held or has no vector;
        None when the partition is not resident."""
    def session_ring(self, partition: str, session_id: str) -> list[bytes] | None:
        """The 16-byte ids in a session's STM ring, oldest first; None when the partition is not resident."""
    def check_language(self, language: str) -> None:
        """Refuse a language that no analyser knows."""
    def touch(self, partition: str, ids: NDArray[np.uint8], now: int) -> bool:
        """Note an access of rows at `now`, (r, 16) uint8; False when the partition is not resident."""
    def sizes(self, partition: str) -> dict[str, int] | None:
        """Bytes of a partition: `vectors_scan`, `vectors_rescore`, `postings`, `columns`, `links`, `metadata`; None when it
        is not resident."""
    def active_counts(self, partition: str) -> list[int] | None:
        """Rows in search by tier number, 0 to 3; None when the partition is not resident."""
    def evict(self, partition: str) -> bool:
        """Drop a partition from memory; False when it was not resident."""
    def export(self, partition: str) -> bytes | None:
        """A partition as bytes, versioned and checksummed; None when it is not resident."""
    def import_(self, partition: str, snapshot: bytes, language: str | None = None) -> int:
        """Make a partition resident from bytes that `export` gave, replacing what was there; returns its version.

        Raises:
            errors.SnapshotError: The bytes are damaged, cut short, of another format, of other dimensions, or in another
                language than wanted.
        """
    def ann_due(self, partition: str) -> bool:
        """Whether a partition is worth calls of `build_ann`."""
    def build_ann(self, partition: str, rows: int) -> bool:
        """Work on a partition's graphs for about `rows` rows; True when more is to do."""
    def stats(self) -> dict[str, int]:
        """`partitions`, `rows`, `size_bytes`, `budget_bytes`, `evictions`, `loads`, `searches`."""

class _FilterFields(TypedDict, total=False):
    tiers: Sequence[int]
    kinds: Sequence[int]
    sessions: Sequence[str]
    agents: Sequence[str]
    occurred_from: int
    occurred_to: int
    as_of: int | None
    metadata: MetadataExpression | None

@final
class SearchFilter:
    """What a search considers; empty lists don't restrict. Archived, removed, expired and (at `now` or `as_of`)
    invalid rows are never considered. Immutable."""

    def __new__(
        cls,
        *,
        tiers: Sequence[int] = (),
        kinds: Sequence[int] = (),
        sessions: Sequence[str] = (),
        agents: Sequence[str] = (),
        occurred_from: int = -9223372036854775808,
        occurred_to: int = 9223372036854775807,
        as_of: int | None = None,
        metadata: MetadataExpression | None = None,
    ) -> SearchFilter: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    def replace(self, **changes: Unpack[_FilterFields]) -> SearchFilter:
        """The same filter with other values of some fields."""
    @property
    def occurred_from(self) -> int: ...
    @property
    def occurred_to(self) -> int: ...

class _PlanFields(TypedDict, total=False):
    vectors: NDArray[np.float32]
    texts: Sequence[str]
    vector_weights: Sequence[float]
    text_weights: Sequence[float]
    dense_weights: Sequence[float]
    lexical_weights: Sequence[float]
    list_depth: int
    max_candidates: int
    now: int
    rrf_k: float
    filter: SearchFilter
    boost: float
    boost_from: int
    boost_to: int
    deadline_micros: int
    rescore: int
    fusion: Literal["score", "rrf"]
    speakers: Sequence[str]
    speaker_boost: float
    prior_weight: float
    session_weight: float
    heat_weight: float
    link_weight: float
    link_depth: int
    duplicate_similarity: float

@final
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

    Immutable. What a further search builds upon can be read back.
    """

    def __new__(
        cls,
        *,
        vectors: NDArray[np.float32],
        texts: Sequence[str],
        vector_weights: Sequence[float],
        text_weights: Sequence[float],
        dense_weights: Sequence[float],
        lexical_weights: Sequence[float],
        list_depth: int,
        max_candidates: int,
        now: int,
        rrf_k: float = 60.0,
        filter: SearchFilter = ...,
        boost: float = 0.0,
        boost_from: int = -9223372036854775808,
        boost_to: int = -9223372036854775808,
        deadline_micros: int = 0,
        rescore: int = 0,
        fusion: Literal["score", "rrf"] = "rrf",
        speakers: Sequence[str] = (),
        speaker_boost: float = 0.0,
        prior_weight: float = 0.0,
        session_weight: float = 0.0,
        heat_weight: float = 0.0,
        link_weight: float = 0.0,
        link_depth: int = 8,
        duplicate_similarity: float = 0.0,
    ) -> SearchPlan:
        """
        Args:
            vectors: (q, dim) float32, unit length; q may be 0 (lexical alone). Copied.
            texts: lexical query views; may be empty (dense alone).
            vector_weights, text_weights: one weight per query view.
            dense_weights, lexical_weights: one weight per passage view; 0 leaves the list out.
            list_depth: entries taken from each list before fusion, at least 1.
            max_candidates: most hits to return, at least 1.
            now: microseconds; for expiry and, without `filter.as_of`, validity.
            filter: everything, if left out.
            deadline_micros: stop scanning after this long and say so; 0: no limit.
            link_weight: 0: no score is passed on.
            duplicate_similarity: a hit repeats a better one of the same speaker, and is reported instead of returned, from
                this cosine on in every passage view, 0 to 1; 0: none does.
            rescore: candidates of each dense list rescored at full precision; 0: the core's default for `list_depth`.
        """
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    def replace(self, **changes: Unpack[_PlanFields]) -> SearchPlan:
        """The same plan with other values of some fields."""
    @property
    def texts(self) -> list[str]: ...
    @property
    def text_weights(self) -> list[float]: ...
    @property
    def filter(self) -> SearchFilter: ...
    @property
    def now(self) -> int: ...

@final
class SearchResult:
    """m hits, best first. Arrays are made when first asked for."""

    @property
    def ids(self) -> NDArray[np.uint8]:
        """(m, 16)."""
    @property
    def scores(self) -> NDArray[np.float32]:
        """(m,), the fused score."""
    @property
    def sources(self) -> list[str]:
        """Names of the s lists: "dense_NAME" for each passage view, then "lexical_NAME" for each."""
    @property
    def ranks(self) -> NDArray[np.uint32]:
        """(m, s): the best rank over the query views, from 1; 0 where the list doesn't hold the row."""
    @property
    def parts(self) -> NDArray[np.float32]:
        """(m, p): what each score is made of, named by `part_names`; score = sum of weight * part. Before the plan's weight
        of it: of a list its score on the list's own scale, summed over the query views by their weights; of the session
        likewise; the prior; 1 or 0 for the speaker and the time; h / (1 + h) of the heat. 0 for a list that the plan left
        out; what linked rows passed on. With reciprocal ranks p is 0."""
    @property
    def part_names(self) -> list[str]:
        """Names of the columns of `parts`: the sources, then "session", "prior", "speaker", "time", "heat", "link"."""
    @property
    def similarities(self) -> NDArray[np.float32]:
        """(m,): cosine of the first query view with view 0, computed at full precision; nan without vectors."""
    @property
    def matched_count(self) -> int:
        """Rows that passed the filter, of those scanned."""
    @property
    def scanned_count(self) -> int:
        """Rows looked at; fewer than resident only when the deadline cut the scan."""
    @property
    def is_complete(self) -> bool:
        """False when the deadline cut the scan."""
    @property
    def is_exact(self) -> bool:
        """False when a graph filled a dense list, which may then miss some of the best."""
    @property
    def duplicate_ids(self) -> NDArray[np.uint8]:
        """(k, 16), what was left out for repeating a hit."""
    @property
    def duplicate_of(self) -> NDArray[np.uint32]:
        """(k,), the positions of the hits repeated."""

@final
class TierBook:
    """What is known of one user's memories, by replaying what happened to them. Safe to call from many threads at once."""

    def __new__(
        cls,
        *,
        half_life: int,
        capacity: list[int],
        promote_heat: float,
        summarise_turns: int,
        stm_turns: int,
        stm_tokens: int,
    ) -> TierBook:
        """An empty book.

        Args:
            half_life: Microseconds in which heat and recency halve; 0: never.
            capacity: Most memories in search, by tier number, 0 to 3.
            promote_heat: Heat at which a memory is due for promotion.
            summarise_turns: Turns of a session, out of its ring and not consolidated, at which it is due for a summary.
            stm_turns, stm_tokens: Bounds of a session's STM ring.
        """
    def replay(self, events: Any) -> None:
        """Note a `core.TierEvents`, all or nothing."""
    def session_ring(self, session_id: str) -> list[bytes]:
        """The 16-byte ids in a session's STM ring, oldest first."""
    def heats(self, ids: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(n,) heat of each of (n, 16) ids as of the last event's time; nan for ids that are not held."""
    def counts(self) -> list[tuple[int, int, int]]:
        """(tier, in search, archived), for each tier that holds memories."""
    def decide(self) -> dict[str, Any]:
        """`summarise`: sessions; `promote`, `archive`: 16-byte ids, hottest and least useful first."""
