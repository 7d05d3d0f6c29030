"""The native module: bindings of the crate lightmem-core. Imported by lightmem_server/core.py alone.

Shapes: n rows, q query views, v passage views per row (`views`), d dimensions (`dim`), m hits. All arrays are
C-contiguous. Every method releases the GIL while it works. Wrong shapes or dtypes, non-finite vectors and ids of
the wrong length raise `CoreError`, and change nothing.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CoreError", "Engine", "SnapshotError", "TierBook", "cpu_features"]

class CoreError(Exception):
    """The core refused its input. `args[0]` says what."""

class SnapshotError(CoreError):
    """A snapshot is damaged, cut short or foreign. `args[0]` says what."""

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
    def search(self, partition: str, plan: Any) -> Any:
        """Run a `core.SearchPlan`; returns a `core.SearchResult`, or None when the partition is not resident."""
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
            SnapshotError: The bytes are damaged, cut short, of another format, of other dimensions, or in another language
                than wanted.
        """
    def ann_due(self, partition: str) -> bool:
        """Whether a partition is worth calls of `build_ann`."""
    def build_ann(self, partition: str, rows: int) -> bool:
        """Work on a partition's graphs for about `rows` rows; True when more is to do."""
    def stats(self) -> dict[str, int]:
        """`partitions`, `rows`, `size_bytes`, `budget_bytes`, `evictions`, `loads`, `searches`."""

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
