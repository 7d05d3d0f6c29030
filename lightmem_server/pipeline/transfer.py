"""Hands a user's memory out as lines, and takes lines in.

    export   store, one moment ─▶ a nameless file, at the disk's pace ─▶ parts of lines, at the reader's pace
    import   lines ─▶ checked ─▶ batches ─▶ vectors of another model made anew ─▶ store, a transaction each ─▶ watermark

A reader who is slow holds up nobody: the store is read in one go, and what waits stands in a file that has no name and is gone
with the process. Erasing the user ends both.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from lightmem_server.errors import UserErasedError
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.run import WATERMARK
from lightmem_server.pipeline.consolidation.triggers import Triggers
from lightmem_server.pipeline.passages import VIEW_NAMES, dense_views
from lightmem_server.pipeline.portable import (
    ChangeLine,
    Header,
    MemoryLine,
    RunLine,
    VersionLine,
    bad_line,
    read_header,
    read_line,
    to_carried_memory,
    to_change,
    to_run,
    to_version,
    write_line,
)
from lightmem_server.pipeline.residents import Residents, read_preceding
from lightmem_server.slm.protocols import Embedder
from lightmem_server.store.connection import store_errors
from lightmem_server.store.protocol import Change, Store, VectorRecord
from lightmem_server.store.run_protocol import RunRecord
from lightmem_server.store.transfer_protocol import Carried, CarriedChange, CarriedVersion, ImportBatch, ImportedMemory
from lightmem_server.types import Kind, Memory, Partition

PART_BYTES = 256 << 10
"""Lines that are sent at once: as many as come to this."""

BATCH_ITEMS = 256
BATCH_BYTES = 1 << 20
"""Most that one transaction takes in: bounds how long others wait for it. One memory with all its versions may be more."""

MAX_VERSIONS = 10_000
"""Earlier versions of one memory that an import takes."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines, and how many of all have come with them."""

    lines: tuple[str, ...]
    done: int
    total: int


class _Left(Exception):  # noqa: N818  # not an error: whoever asked is gone
    """Ends the reading of the store for an export that nobody waits for."""


class Exporting:
    """Exports of one server."""

    def __init__(self, store: Store, *, embedding: str, spool_dir: Path) -> None:
        """`spool_dir` is where what waits for the reader stands, nameless."""
        self._store = store
        self._embedding = embedding
        self._spool_dir = spool_dir

    async def export(self, partition: Partition) -> AsyncGenerator[Part, None]:
        """Everything of a user, as of one moment.

        Raises:
            UserErasedError: Erased since this began; what has come is not to be used.
            StoreError: Also where there is no room for what waits.
        """
        generation = await self._store.generation(partition)
        with self._open_spool() as spool:
            total = await self._fill(spool, partition)
            with store_errors(str(self._spool_dir)):
                spool.seek(0)
            done = 0
            while done < total:
                lines = await asyncio.to_thread(spool.readlines, PART_BYTES)
                if await self._store.generation(partition) != generation:
                    raise UserErasedError("the user was erased after the export began")
                done += len(lines)
                yield Part(tuple(line[:-1].decode() for line in lines), done, total)

    @contextlib.contextmanager
    def _open_spool(self) -> Iterator[IO[bytes]]:
        with store_errors(str(self._spool_dir)):
            spool = tempfile.TemporaryFile(dir=self._spool_dir)  # noqa: SIM115  # closed below, where errors are others
        try:
            yield spool
        finally:
            with contextlib.suppress(OSError):  # the disk is full: nobody needs what is still in the buffer
                spool.close()

    async def _fill(self, spool: IO[bytes], partition: Partition) -> int:
        """Write all lines; how many."""
        count, is_left = 0, False

        def visit(carried: Carried) -> None:
            nonlocal count
            if is_left:
                raise _Left
            spool.write(write_line(carried, embedding=self._embedding).encode() + b"\n")
            count += 1

        work = asyncio.ensure_future(self._store.export(partition, visit, watermark=WATERMARK))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            is_left = True
            await asyncio.gather(work, return_exceptions=True)  # it writes to the file, which must outlive it
            raise
        return count


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: memories stored, there already, and of those stored the ones with new vectors."""

    imported: int = 0
    skipped: int = 0
    reembedded: int = 0


@dataclass(slots=True)
class _Batch:
    runs: list[RunRecord] = field(default_factory=list)
    changes: list[CarriedChange] = field(default_factory=list)
    memories: list[ImportedMemory] = field(default_factory=list)
    versions: list[CarriedVersion] = field(default_factory=list)
    """Of the memory that comes next."""
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        count = len(self.runs) + len(self.changes) + len(self.memories)
        return not self.versions and (count >= BATCH_ITEMS or self.size_bytes >= BATCH_BYTES)


class Importing:
    """Imports of one server."""

    def __init__(
        self,
        store: Store,
        residents: Residents,
        embedder: Embedder,
        *,
        embedding: str,
        clock: Clock,
        max_text_bytes: int,
        triggers: Triggers | None = None,
    ) -> None:
        """
        Args:
            embedding: Identity under which vectors are of use here; others are made anew.
            max_text_bytes: Of one turn.
            triggers: What is new to consolidation starts one; None: it doesn't.
        """
        self._store = store
        self._residents = residents
        self._embedder = embedder
        self._embedding = embedding
        self._clock = clock
        self._max_text_bytes = max_text_bytes
        self._triggers = triggers

    async def import_(self, partition: Partition, lines: AsyncIterator[str]) -> Imported:
        """Take an export in. What comes before a line that is refused is stored; sending everything again goes on there.

        Raises:
            InvalidInputError: Names the line; BAD_LINE, UNKNOWN_FORMAT, or INCOMPLETE: lines are missing at the end.
            MemoryDiffersError, PreconditionError, UserErasedError: See `Store.import_batch`.
            StoreError, OverloadedError.
        """
        generation = await self._store.generation(partition)
        header: Header | None = None
        number, done, batch = 0, Imported(), _Batch()
        async for line in lines:
            number += 1
            if header is None:
                header = read_header(line)
                continue
            self._take(batch, number, line, partition)
            if batch.is_full:
                done = await self._store_batch(partition, generation, batch, done)
                batch = _Batch()
        if header is None:
            raise bad_line(1, "is missing: there is no header")
        if batch.versions or number != header.line_count:
            expected = header.line_count
            raise bad_line(number, f"is the last, and the header says that there are {expected}", reason="INCOMPLETE")
        done = await self._store_batch(partition, generation, batch, done)
        if number > 1:
            await self._finish(partition, generation)
        return done

    def _take(self, batch: _Batch, number: int, text: str, partition: Partition) -> None:
        """Add a line to a batch."""
        line = read_line(number, text)
        batch.size_bytes += len(text)
        if batch.versions and not (
            isinstance(line, VersionLine | MemoryLine) and line.id == str(batch.versions[-1].memory.id)
        ):
            raise bad_line(number, "is not of the memory whose versions come before it")
        if isinstance(line, VersionLine | MemoryLine):
            self._check(batch, number, line)
        match line:
            case Header():
                raise bad_line(number, "is a second header")
            case RunLine():
                batch.runs.append(to_run(line, partition))
            case ChangeLine():
                batch.changes.append(to_change(line))
            case VersionLine():
                batch.versions.append(to_version(line))
            case MemoryLine():
                carried = to_carried_memory(number, line)
                vector = carried.vector
                if vector is not None and vector.model == self._embedding:
                    shape = (len(VIEW_NAMES), self._embedder.dim)
                    if vector.vectors.shape != shape:
                        raise bad_line(number, f"vector is not of {shape[0]} views and {shape[1]} dimensions")
                batch.memories.append(ImportedMemory(number, carried, tuple(batch.versions)))
                batch.versions.clear()

    def _check(self, batch: _Batch, number: int, line: VersionLine | MemoryLine) -> None:
        if line.kind == Kind.TURN.name and len(line.text.encode()) > self._max_text_bytes:
            raise bad_line(number, f"text is longer than {self._max_text_bytes} bytes")
        if batch.versions and line.version != batch.versions[-1].memory.version + 1:
            raise bad_line(number, "version does not follow the one before it")
        if len(batch.versions) >= MAX_VERSIONS:
            raise bad_line(number, f"has more than {MAX_VERSIONS} earlier versions")

    async def _store_batch(self, partition: Partition, generation: int, batch: _Batch, done: Imported) -> Imported:
        if not (batch.runs or batch.changes or batch.memories):
            return done
        memories, reembedded = await self._with_vectors(partition, batch.memories)
        async with self._residents.writer(partition):
            count = await self._store.import_batch(
                ImportBatch(partition, generation, batch.runs, batch.changes, memories)
            )
        return Imported(done.imported + count, done.skipped + len(memories) - count, done.reembedded + reembedded)

    async def _with_vectors(
        self, partition: Partition, imported: list[ImportedMemory]
    ) -> tuple[list[ImportedMemory], int]:
        """The memories, those that are not there yet with vectors of this server's; and how many got new ones."""
        ids = [each.memory.memory.id for each in imported]
        there = {memory.id for memory in await self._store.get(partition, ids) if memory is not None}
        foreign = [
            each.memory.memory
            for each in imported
            if each.memory.vector is not None
            and each.memory.vector.model != self._embedding
            and each.memory.memory.id not in there
        ]
        if not foreign:
            return imported, 0
        made = await self._embed(partition, foreign, [each.memory.memory for each in imported])
        return [
            replace(each, memory=replace(each.memory, vector=made.get(each.memory.memory.id, each.memory.vector)))
            for each in imported
        ], len(made)

    async def _embed(
        self, partition: Partition, foreign: list[Memory], batch: list[Memory]
    ) -> dict[object, VectorRecord]:
        preceding = await read_preceding(self._store, partition, batch)
        texts = [text for memory in foreign for text in dense_views(memory, preceding[memory.id])]
        vectors = await self._embedder.embed_passages(texts)
        views = len(VIEW_NAMES)
        return {
            memory.id: VectorRecord(memory.id, self._embedding, vectors[i * views : (i + 1) * views])
            for i, memory in enumerate(foreign)
        }

    async def _finish(self, partition: Partition, generation: int) -> None:
        async with self._residents.writer(partition):
            has_news = await self._store.finish_import(partition, watermark=WATERMARK, generation=generation)
            if has_news and self._triggers is not None:
                jobs = self._triggers.on_write(self._clock.now(), overflows=False)
                await self._store.commit(Change(partition, jobs=jobs, generation=generation))
            await self._residents.refresh(partition)
