"""What the server needs of its system of record to hand a user's memory out whole, and to take it in.

A part of `Store`; its promises and errors hold here too. What is carried: records with every version that is kept, vectors,
access statistics, the order of first commits, runs with what they changed, and which records no run has looked at yet. What is
not: deleted ids, requests, jobs, steps of runs, version numbers of partitions.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from lightmem_server.store.run_protocol import RunChange, RunRecord
from lightmem_server.types import Memory, Partition

if TYPE_CHECKING:  # `protocol` builds on this module
    from lightmem_server.store.protocol import VectorRecord


@dataclass(frozen=True, slots=True)
class Outline:
    """How many of each are carried, and the version of the schema that they were stored with."""

    schema_version: int
    run_count: int = 0
    change_count: int = 0
    version_count: int = 0
    memory_count: int = 0


@dataclass(frozen=True, slots=True)
class CarriedChange:
    """What a run did to a record."""

    run_id: uuid.UUID
    change: RunChange


@dataclass(frozen=True, slots=True)
class CarriedVersion:
    """A version of a record before its present one, and when, why and by which run it was changed to the next."""

    memory: Memory
    changed_at: int
    reason: str
    run_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class CarriedMemory:
    """A record as it is. `is_new`: consolidation has not looked at it since it was last changed."""

    memory: Memory
    vector: VectorRecord | None
    is_new: bool


Carried: TypeAlias = Outline | RunRecord | CarriedChange | CarriedVersion | CarriedMemory
"""In this order: the outline, runs oldest first, each followed by its changes; then records by order, each after its earlier
versions, oldest first."""


@dataclass(frozen=True, slots=True)
class ImportedMemory:
    """A record to take in, its earlier versions, and the line that errors name."""

    line: int
    memory: CarriedMemory
    versions: Sequence[CarriedVersion] = ()


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """Part of an import. Applied whole or not at all; the runs that its parts name come with it or came before."""

    partition: Partition
    generation: int
    runs: Sequence[RunRecord] = ()
    changes: Sequence[CarriedChange] = ()
    memories: Sequence[ImportedMemory] = ()


class TransferStore(Protocol):
    """Export and import of partitions."""

    async def export(self, partition: Partition, visit: Callable[[Carried], None], *, watermark: str) -> None:
        """Show everything of a partition, as of one moment, to a function that is called in a thread. What it raises ends
        the export. `watermark` names the one that says what consolidation has looked at. Changes go on meanwhile; `wipe`
        waits."""

    async def import_batch(self, batch: ImportBatch) -> int:
        """Take records in with their ids and versions, in order behind those that are there; returns how many. One that is
        there already, or was and has changed since, is left as it is, and so is a run.

        Raises:
            UserErasedError: The partition was erased after the batch's generation.
            MemoryDiffersError: A record with this id says something else, or is there in an earlier version.
            InvalidInputError: A run is named that is neither in the batch nor in the partition.
            PreconditionError: MEMORY_DELETED, RUN_AT_WORK in this partition, RUN_ELSEWHERE: a run with this id is another's.
        """

    async def finish_import(self, partition: Partition, *, watermark: str, generation: int) -> bool:
        """Let the watermark pass what was imported as looked at. Returns whether something is there that no run has looked at.

        Raises:
            UserErasedError, PreconditionError: As `import_batch`.
        """
