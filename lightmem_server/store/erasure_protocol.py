"""What the server needs of its system of record to forget a user for good.

A part of `Store`; its promises and errors hold here too. After `erase` nothing of the user is found, also by what was begun
before: a commit that names its generation is refused, a retried request too, jobs and runs are gone. After `wipe` no byte of it
is in a file either.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Protocol

from lightmem_server.types import Partition


@dataclass(frozen=True, slots=True)
class Erased:
    """The receipt of an erasure. It is kept without the user's id: a salted hash stands for it.

    Attributes:
        receipt_id: Names the erasure.
        erased_at: When, in microseconds.
        memory_count, vector_count, job_count: What was removed; all 0 where there was nothing.
        withdrawn_support_count: Things that users say alike, shared or not, that lost the user's support.
    """

    receipt_id: uuid.UUID
    erased_at: int
    memory_count: int
    vector_count: int
    job_count: int
    withdrawn_support_count: int


class ErasureStore(Protocol):
    """Erasing users."""

    async def generation(self, partition: Partition) -> int:
        """How often the partition was erased. Work that reads it first and names it in its `Change` stores nothing in a
        partition that was erased meanwhile."""

    async def erase(self, partition: Partition, *, now: int) -> Erased:
        """Remove everything of a partition in one transaction, its name too. A tombstone stays, with nothing that was said:
        versions go on from the erased one's, so that replicas load anew. A partition that is not there is erased all the
        same: the first write of a user may be under way. Keys that are bound to the user stay, and name the user."""

    async def wipe(self) -> None:
        """See that nothing that was erased or deleted before the call is left in the bytes of any file of the store.

        Raises:
            StoreError: Not yet; reason ERASURE_INCOMPLETE: readers were in the way too long. Call again; the next `open`
                does it too.
        """
