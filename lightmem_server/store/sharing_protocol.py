"""What the server needs of its system of record for the LTM that the users of a namespace share.

A part of `Store`; its promises and errors hold here too. A shared fact is there only as long as enough users support it, by
partition: a commit that deletes, archives, ends, rewords or limits a fact takes its support away, and the shared fact with it
where too few are left, in its own transaction. Who supports what is never read back.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightmem_server.types import Memory, Partition


@dataclass(frozen=True, slots=True)
class Offer:
    """A user's fact that may count for a shared one. `key` names what it says, alike for all users who say it."""

    fact_id: uuid.UUID
    version: int
    key: bytes


@dataclass(frozen=True, slots=True)
class SharedFact:
    """A fact of nobody: what to store under a key, and its vectors by an embedder, (views, dim) float32."""

    key: bytes
    memory: Memory
    model: str
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Names:
    """By what records name somebody. `objects` are of facts, and tell of more than names."""

    names: frozenset[str]
    objects: frozenset[str]


class SharingStore(Protocol):
    """Support, and what comes of it."""

    async def offer(self, partition: Partition, offers: Sequence[Offer], *, min_users: int) -> list[bytes]:
        """Make these facts a user's whole support, those of them that are still at their versions and hold. Returns the keys
        among them that at least `min_users` users support and that are not shared yet."""

    async def share(self, namespace: str, facts: Sequence[SharedFact], *, min_users: int) -> int:
        """Store shared facts: those that so many users support in this moment, and that are not there yet. Returns how
        many."""

    async def retract(self, namespace: str, memory_ids: Sequence[uuid.UUID]) -> int:
        """Delete shared facts, and everybody's support of them: they were not to be shared. Returns how many."""

    async def require_support(self, min_users: int) -> int:
        """Let the shared facts of all namespaces need so many users; delete those that have fewer. Returns how many."""

    async def names(self, namespace: str, *, relations: Collection[str]) -> Names:
        """Ids of users and agents, speakers, participants and subjects of facts, and the objects of facts in these relations.
        Reads every record of the namespace, archived ones too."""
