"""The embedded store: one SQLite database in one folder, for one server.

    coroutine ─▶ commit, put_key, ... ─▶ GroupWriter (one thread, one connection) ─▶ lightmem.db
              ├▶ get, list_page, ...  ─▶ a few reading threads, a connection each ─┤   (+ -wal, -shm, lightmem.lock)
              └▶ one row by its key   ─▶ the event loop's own connection ──────────┘

SQLite was chosen after measurement against RocksDB, LMDB and DuckDB: the shortest durable commit, and nothing lost after
SIGKILL. The write-ahead log lets readers go on beside the writer. The file is as long as its Protocols: a method for each of
theirs, whose work is elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import apsw
import structlog
import uuid_utils.compat
from filelock import FileLock, Timeout

from lightmem_server.errors import DamagedError, DiskError, OverloadedError, StoreError
from lightmem_server.store import (
    erasure,
    history,
    jobs,
    runs,
    sharing,
    snapshots,
    sqlite_read,
    sqlite_write,
    transfer,
    wipe,
)
from lightmem_server.store.backup import BACKUPS_NAME, Backups
from lightmem_server.store.backup_protocol import BackupProgress
from lightmem_server.store.connection import check_library, open_connection, store_errors, to_reader, to_writer
from lightmem_server.store.erasure_protocol import Erased
from lightmem_server.store.place import Place
from lightmem_server.store.protocol import (
    Change,
    Changes,
    ClaimedJob,
    CommitResult,
    DeadJob,
    JobRecord,
    KeyRecord,
    Page,
    SnapshotRecord,
    Stats,
)
from lightmem_server.store.run_protocol import Cancelled, HistoryEntry, RunChange, RunRecord, RunState, RunTag
from lightmem_server.store.schema import check_version, migrate, read_migrations
from lightmem_server.store.sharing_protocol import Names, Offer, SharedFact
from lightmem_server.store.transfer_protocol import Carried, ImportBatch
from lightmem_server.store.trouble import Trouble, try_room
from lightmem_server.store.writer import GroupWriter
from lightmem_server.types import Kind, Memory, MemoryFilter, Partition

R = TypeVar("R")

DATABASE_NAME = "lightmem.db"
LOCK_NAME = "lightmem.lock"

READ_THREADS = 4
WRITER_CACHE_BYTES = 16 << 20
READER_CACHE_BYTES = 8 << 20
KEY_CACHE_BYTES = 1 << 20

MAX_WAITING_READS = 4096
"""Beyond it reads are refused: bounds the queue in front of the reading threads."""

REQUEST_MEMORY_MICROS = 24 * 3600 * 1_000_000
"""How long a request_id is remembered, at least."""

PRUNE_INTERVAL_MICROS = 600 * 1_000_000

WIPE_ATTEMPTS = 100
WIPE_REST_SECONDS = 0.1
"""How often, and how long after the last time, it is tried to empty the log when readers are in the way: for some 20 s."""

ERASED_MEANWHILE = "a user was erased while the backup was made, and it may hold their words: make another"

log = structlog.get_logger()


def _system_micros() -> int:
    return time.time_ns() // 1000


class SqliteStore:
    """A `Store` in one folder. `open` it before use; it belongs to one event loop."""

    def __init__(
        self, data_dir: Path, *, max_waiting_commits: int = 1024, now: Callable[[], int] = _system_micros
    ) -> None:
        """
        Args:
            data_dir: Folder of the database; made with mode 0700 when it isn't there.
            max_waiting_commits: Beyond it `commit` is refused with OverloadedError.
            now: The time in microseconds; decides only how long a request_id is remembered.
        """
        self._data_dir = data_dir
        self._path = data_dir / DATABASE_NAME
        self._max_waiting_commits = max_waiting_commits
        self._now = now
        # Beside the file itself, not beside a link to it: two folders may lead to one database.
        lock_path = self._path.resolve().parent / LOCK_NAME
        self._lock = FileLock(lock_path, timeout=0, mode=0o600, thread_local=False)
        self._connections: list[apsw.Connection] = []
        self._readers: SimpleQueue[apsw.Connection] = SimpleQueue()
        self._read_threads: ThreadPoolExecutor | None = None
        self._key_reader: apsw.Connection | None = None
        self._reads_waiting = 0
        self._writer: GroupWriter | None = None
        self._backups: Backups | None = None
        self._trouble = Trouble()
        self._prune_at = 0
        self._opening = asyncio.Lock()
        self._exporting = asyncio.Lock()
        self._file: int | None = None
        self._place: Place | None = None

    async def open(self) -> None:
        """See `Store.open`. Raises StoreError also when another server has the folder open."""
        async with self._opening:
            if self._writer is None:
                await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """See `Store.close`."""
        async with self._opening, self._exporting:
            self._key_reader = None  # here, where none of its reads can be under way
            await asyncio.to_thread(self._close)

    async def commit(self, change: Change) -> CommitResult:
        """See `Store.commit`."""

        def work(connection: apsw.Connection) -> CommitResult:
            now = self._now()
            result = sqlite_write.apply_change(connection, change, now=now)
            if now >= self._prune_at and not sqlite_write.prune_requests(connection, now - REQUEST_MEMORY_MICROS):
                self._prune_at = now + PRUNE_INTERVAL_MICROS
            return result

        # A fact that is changed may take a shared fact along.
        may_delete = bool(change.deletes) or any(put.kind is Kind.FACT and put.version > 1 for put in change.puts)
        return await self._write(work, deletes=may_delete)

    async def find_request(self, partition: Partition, request_id: str, request_digest: bytes) -> CommitResult | None:
        """See `Store.find_request`."""
        return await self._read(
            lambda connection: sqlite_read.find_request(connection, partition, request_id, request_digest)
        )

    async def get(self, partition: Partition, ids: Sequence[uuid.UUID]) -> list[Memory | None]:
        """See `Store.get`."""
        return await self._read(lambda connection: sqlite_read.get(connection, partition, ids)) if ids else []

    async def find_followers(self, partition: Partition, memory_id: uuid.UUID) -> list[Memory]:
        """See `Store.find_followers`."""
        return await self._read(lambda connection: sqlite_read.find_followers(connection, partition, memory_id))

    async def find_dependents(self, partition: Partition, memory_id: uuid.UUID) -> list[Memory]:
        """See `Store.find_dependents`."""
        return await self._read(lambda connection: sqlite_read.find_dependents(connection, partition, memory_id))

    async def list_page(
        self, partition: Partition, record_filter: MemoryFilter, *, limit: int, before_order: int | None, now: int
    ) -> Page:
        """See `Store.list_page`."""
        return await self._read(
            lambda connection: sqlite_read.list_page(
                connection, partition, record_filter, limit=limit, before_order=before_order, now=now
            )
        )

    async def changes_since(self, partition: Partition, version: int | None) -> Changes:
        """See `Store.changes_since`."""
        if version is not None and self._read_now(partial(sqlite_read.is_at, partition=partition, version=version)):
            return Changes(version, is_full=False, rows=(), removed_ids=())
        return await self._read(lambda connection: sqlite_read.changes_since(connection, partition, version))

    async def save_snapshot(self, partition: Partition, snapshot: SnapshotRecord) -> bool:
        """See `Store.save_snapshot`."""
        for part in range(snapshots.count_parts(snapshot)):
            if not await self._write(partial(snapshots.put_part, partition=partition, snapshot=snapshot, part=part)):
                return False
        return True

    async def load_snapshot(self, partition: Partition) -> SnapshotRecord | None:
        """See `Store.load_snapshot`."""
        return await self._read(lambda connection: snapshots.load(connection, partition))

    async def purge_tombstones(self, partition: Partition, up_to_version: int) -> int:
        """See `Store.purge_tombstones`."""
        return await self._write(
            lambda connection: sqlite_write.purge_tombstones(connection, partition, up_to_version), deletes=True
        )

    async def record_access(self, partition: Partition, ids: Sequence[uuid.UUID], at: int) -> None:
        """See `Store.record_access`."""
        if not ids:
            return
        with suppress(OverloadedError):  # statistics: under overload commits come first
            await self._write(lambda connection: sqlite_write.record_access(connection, partition, ids, at))

    async def claim_job(
        self, kinds: Sequence[str], *, owner: str, lease_micros: int, now: int, most_attempts: int | None = None
    ) -> ClaimedJob | None:
        """See `JobQueue.claim_job`."""
        return await self._write(
            partial(
                jobs.claim, kinds=kinds, owner=owner, lease_micros=lease_micros, now=now, most_attempts=most_attempts
            )
        )

    async def extend_job(self, job_id: int, *, owner: str, lease_micros: int, now: int) -> bool:
        """See `JobQueue.extend_job`."""
        return await self._write(partial(jobs.extend, job_id=job_id, owner=owner, lease_micros=lease_micros, now=now))

    async def finish_job(self, job_id: int, *, owner: str) -> bool:
        """See `JobQueue.finish_job`."""
        return await self._write(partial(jobs.finish, job_id=job_id, owner=owner))

    async def fail_job(
        self, job_id: int, *, owner: str, error: str, now: int, most_attempts: int | None = None
    ) -> bool:
        """See `JobQueue.fail_job`."""
        return await self._write(
            partial(jobs.fail, job_id=job_id, owner=owner, error=error, now=now, most_attempts=most_attempts)
        )

    async def release_job(self, job_id: int, *, owner: str, not_before: int) -> bool:
        """See `JobQueue.release_job`."""
        return await self._write(partial(jobs.release, job_id=job_id, owner=owner, not_before=not_before))

    async def next_job_at(self, kinds: Sequence[str]) -> int | None:
        """See `JobQueue.next_job_at`."""
        return await self._read(partial(jobs.next_at, kinds=kinds))

    async def enqueue_behind(self, job: JobRecord, *, watermark: str) -> int:
        """See `JobQueue.enqueue_behind`."""
        return await self._write(partial(jobs.enqueue_behind, job=job, watermark=watermark))

    async def list_dead_jobs(self, namespace: str, user_id: str | None = None, *, limit: int) -> list[DeadJob]:
        """See `JobQueue.list_dead_jobs`."""
        return await self._read(partial(jobs.list_dead, namespace=namespace, user_id=user_id, limit=limit))

    async def watermark(self, partition: Partition, name: str) -> int:
        """See `RunStore.watermark`."""
        return await self._read(partial(runs.read_watermark, partition=partition, name=name))

    async def begin_run(
        self,
        partition: Partition,
        *,
        job_id: int,
        owner: str,
        cause: str,
        model: str,
        prompt: str,
        watermark: str,
        now: int,
    ) -> RunRecord | None:
        """See `RunStore.begin_run`."""
        return await self._write(
            partial(
                runs.begin,
                partition=partition,
                job_id=job_id,
                owner=owner,
                run_id=uuid_utils.compat.uuid7(),
                cause=cause,
                model=model,
                prompt=prompt,
                watermark=watermark,
                now=now,
            )
        )

    async def load_step(self, run_id: uuid.UUID, stage: str, key: str) -> str | None:
        """See `RunStore.load_step`."""
        return await self._read(partial(runs.load_step, run_id=run_id, stage=stage, key=key))

    async def save_step(self, tag: RunTag, data: str, memory_ids: Sequence[uuid.UUID]) -> bool:
        """See `RunStore.save_step`."""
        return await self._write(partial(runs.save_step, tag=tag, data=data, memory_ids=memory_ids))

    async def report_run(self, run_id: uuid.UUID, *, owner: str, kept: int, rejected: Mapping[str, int]) -> None:
        """See `RunStore.report_run`."""
        await self._write(partial(runs.report, run_id=run_id, owner=owner, kept=kept, rejected=rejected))

    async def spend(self, run_id: uuid.UUID, *, micros: int, tokens: int, now: int) -> None:
        """See `RunStore.spend`."""
        await self._write(partial(runs.spend, run_id=run_id, micros=micros, tokens=tokens, now=now))

    async def model_time(self, namespace: str, since: int) -> list[tuple[int, int]]:
        """See `RunStore.model_time`."""
        return await self._read(partial(runs.model_time, namespace=namespace, since=since))

    async def finish_run(
        self, run_id: uuid.UUID, *, job_id: int, owner: str, state: RunState, error: str, watermark: str, now: int
    ) -> None:
        """See `RunStore.finish_run`."""
        await self._write(
            partial(
                runs.finish,
                run_id=run_id,
                job_id=job_id,
                owner=owner,
                state=state,
                error=error,
                watermark=watermark,
                now=now,
            )
        )

    async def cancel_run(self, partition: Partition, kind: str, *, now: int) -> Cancelled:
        """See `RunStore.cancel_run`."""
        return await self._write(partial(runs.cancel, partition=partition, kind=kind, now=now))

    async def find_run(self, run_id: uuid.UUID) -> RunRecord | None:
        """See `RunStore.find_run`."""
        return await self._read(partial(runs.find, run_id=run_id))

    async def list_runs(self, partition: Partition, *, limit: int) -> list[RunRecord]:
        """See `RunStore.list_runs`."""
        return await self._read(partial(runs.list_of, partition=partition, limit=limit))

    async def run_changes(self, run_id: uuid.UUID) -> list[RunChange]:
        """See `RunStore.run_changes`."""
        return await self._read(partial(runs.changes_of, run_id=run_id))

    async def history(self, partition: Partition, memory_id: uuid.UUID) -> list[HistoryEntry]:
        """See `RunStore.history`."""
        return await self._read(partial(history.read, partition=partition, memory_id=memory_id))

    async def offer(self, partition: Partition, offers: Sequence[Offer], *, min_users: int) -> list[bytes]:
        """See `SharingStore.offer`."""
        work = partial(sharing.offer, partition=partition, offers=offers, min_users=min_users)
        return await self._write(work, deletes=True)

    async def share(self, namespace: str, facts: Sequence[SharedFact], *, min_users: int) -> int:
        """See `SharingStore.share`."""
        work = partial(sharing.share, namespace=namespace, facts=facts, min_users=min_users, now=self._now())
        return await self._write(work)

    async def retract(self, namespace: str, memory_ids: Sequence[uuid.UUID]) -> int:
        """See `SharingStore.retract`."""
        return await self._write(partial(sharing.retract, namespace=namespace, memory_ids=memory_ids), deletes=True)

    async def require_support(self, min_users: int) -> int:
        """See `SharingStore.require_support`."""
        return await self._write(partial(sharing.require_support, min_users=min_users), deletes=True)

    async def names(self, namespace: str, *, relations: Collection[str]) -> Names:
        """See `SharingStore.names`."""
        return await self._read(partial(sharing.names, namespace=namespace, relations=relations))

    async def generation(self, partition: Partition) -> int:
        """See `ErasureStore.generation`."""
        query = partial(erasure.generation, partition=partition)
        found = self._read_now(query)
        return await self._read(query) if found is None else found

    async def erase(self, partition: Partition, *, now: int) -> Erased:
        """See `ErasureStore.erase`."""
        receipt_id = uuid_utils.compat.uuid7()
        work = partial(erasure.erase, partition=partition, receipt_id=receipt_id, now=now)
        return await self._write(work, deletes=True)

    async def wipe(self) -> None:
        """See `ErasureStore.wipe`."""
        for attempt in range(WIPE_ATTEMPTS):
            if attempt:
                await asyncio.sleep(WIPE_REST_SECONDS)
            if self._writer is None or self._file is None or self._backups is None:
                raise StoreError("the store is not open")
            self._backups.end(ERASED_MEANWHILE)  # it may hold what was erased, and keeps the log from being emptied
            work = partial(wipe.wipe, file=self._file, now=self._now())
            if await asyncio.wrap_future(self._writer.submit_alone(work)):
                return
        raise StoreError(
            "the records are removed, but readers keep their bytes in the log: try again", reason="ERASURE_INCOMPLETE"
        )

    async def export(self, partition: Partition, visit: Callable[[Carried], None], *, watermark: str) -> None:
        """See `TransferStore.export`. One at a time, beside the reading threads, which it would hold up."""
        async with self._exporting:
            if self._writer is None:
                raise StoreError("the store is not open")
            await asyncio.to_thread(self._export, partition, visit, watermark)

    async def import_batch(self, batch: ImportBatch) -> int:
        """See `TransferStore.import_batch`."""
        return await self._write(partial(transfer.import_batch, batch=batch))

    async def finish_import(self, partition: Partition, *, watermark: str, generation: int) -> bool:
        """See `TransferStore.finish_import`."""
        return await self._write(
            partial(transfer.finish_import, partition=partition, watermark=watermark, generation=generation)
        )

    async def stats(self, namespace: str, user_id: str | None = None) -> Stats:
        """See `Store.stats`."""
        return await self._read(lambda connection: sqlite_read.stats(connection, namespace, user_id))

    async def put_key(self, key: KeyRecord) -> None:
        """See `Store.put_key`."""
        await self._write(lambda connection: sqlite_write.put_key(connection, key))

    async def find_key(self, key_id: str) -> KeyRecord | None:
        """See `Store.find_key`."""
        found = self._read_now(partial(sqlite_read.find_key, key_id=key_id))
        return found or await self._read(lambda connection: sqlite_read.find_key(connection, key_id))

    async def list_keys(self, namespace: str, *, limit: int, after_key_id: str) -> list[KeyRecord]:
        """See `Store.list_keys`."""
        return await self._read(lambda connection: sqlite_read.list_keys(connection, namespace, limit, after_key_id))

    async def embedding_models(self) -> dict[str, int]:
        """See `Store.embedding_models`."""
        return await self._read(sqlite_read.embedding_models)

    async def check(self) -> list[str]:
        """See `Store.check`."""
        return await self._read(sqlite_read.check)

    async def wait_trouble(self) -> DiskError:
        """See `TroubledStore.wait_trouble`."""
        return await self._trouble.wait()

    async def probe(self) -> None:
        """See `TroubledStore.probe`."""
        if isinstance(self._trouble.error, DamagedError):
            findings = await self.check()
            if findings:
                raise DamagedError(findings[0])
            self._trouble.end()
        await asyncio.to_thread(try_room, self._data_dir)
        await self._write(sqlite_write.touch)

    def backup(self, name: str) -> AsyncGenerator[BackupProgress, None]:
        """See `BackupStore.backup`."""
        if self._backups is None:
            raise StoreError("the store is not open")
        return self._backups.make(name)

    async def _write(self, work: Callable[[apsw.Connection], R], *, deletes: bool = False) -> R:
        if self._writer is None:
            raise StoreError("the store is not open")
        try:
            result = await asyncio.wrap_future(self._writer.submit(work, deletes=deletes))
        except DiskError as error:
            self._trouble.meet(error)
            raise
        self._trouble.commit_succeeded()
        return result

    async def _read(self, query: Callable[[apsw.Connection], R]) -> R:
        if self._read_threads is None:
            raise StoreError("the store is not open")
        if self._reads_waiting >= MAX_WAITING_READS:
            raise OverloadedError(f"{MAX_WAITING_READS} reads wait already", retry_after_seconds=0.5)
        self._reads_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._read_threads, self._run_query, query)
        except DiskError as error:
            self._trouble.meet(error)
            raise
        finally:
            self._reads_waiting -= 1

    def _read_now(self, query: Callable[[apsw.Connection], R]) -> R | None:
        """Read a row by its key on the event loop: a few pages that nearly every call reads, 15 µs, where going to a
        thread and back costs 110. None also when that would have to wait: then a thread should."""
        if self._key_reader is None:
            return None
        try:
            return query(self._key_reader)
        except apsw.Error:  # a reading thread meets it again, after waiting, and says what it means
            return None

    def _run_query(self, query: Callable[[apsw.Connection], R]) -> R:
        connection = self._readers.get_nowait()  # never empty: there are as many as threads
        try:
            with store_errors():
                return query(connection)
        finally:
            self._readers.put(connection)

    def _open(self) -> None:
        check_library(apsw.sqlite_lib_version())
        is_open = False
        try:
            with store_errors(str(self._data_dir)):
                self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._acquire_lock()
            with store_errors(str(self._path)):
                connection = self._connect(WRITER_CACHE_BYTES)
                migrations = read_migrations()
                check_version(connection, len(migrations))
                to_writer(connection)
                migrate(connection, migrations)
                self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
                self._finish_wiping(connection, self._file)
                jobs.lapse_all(connection)
                for _ in range(READ_THREADS):
                    reader = self._connect(READER_CACHE_BYTES)
                    to_reader(reader)
                    self._readers.put(reader)
                self._key_reader = self._connect(KEY_CACHE_BYTES)
                to_reader(self._key_reader)
                self._key_reader.set_busy_timeout(0)
                self._place = Place(self._path, page_size=int(connection.pragma("page_size")))
            self._writer = GroupWriter(connection, max_waiting=self._max_waiting_commits, check=self._place.check)
            self._writer.start()
            folder = self._data_dir / BACKUPS_NAME
            self._backups = Backups(self._path, folder, self._writer.keep_log, self._place.check)
            self._read_threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="lightmem-store-reader")
            is_open = True
        finally:
            if not is_open:
                self._close()

    def _export(self, partition: Partition, visit: Callable[[Carried], None], watermark: str) -> None:
        assert self._place is not None, "the store is open"
        self._place.check()  # a connection to another file, or to none, would begin a new database
        with store_errors():
            connection = open_connection(self._path, cache_bytes=READER_CACHE_BYTES)
            try:
                to_reader(connection)
                transfer.export(connection, partition, visit, watermark=watermark)
            finally:
                connection.close()

    def _finish_wiping(self, connection: apsw.Connection, file: int) -> None:
        """Where the last server ended in the middle of an erasure. A disk that refuses it now may still be read."""
        try:
            if wipe.is_due(connection):
                wipe.wipe(connection, file=file, now=self._now())
        except (apsw.Error, OSError) as error:
            log.warning("wipe_failed", error=str(error))

    def _acquire_lock(self) -> None:
        """Held until `close` or the end of the process, however it ends: two servers would miss each other's versions."""
        try:
            self._lock.acquire()
        except Timeout as error:
            raise StoreError(f"{self._data_dir}: another LightMem server has this folder open") from error

    def _connect(self, cache_bytes: int) -> apsw.Connection:
        connection = open_connection(self._path, cache_bytes=cache_bytes)
        self._connections.append(connection)
        return connection

    def _close(self) -> None:
        """Undo `_open`, also half of it."""
        if self._backups is not None:
            self._backups.close()
            self._backups = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._read_threads is not None:
            threads, self._read_threads = self._read_threads, None  # refuse first
            threads.shutdown()
        self._readers = SimpleQueue()
        self._key_reader = None
        for connection in reversed(self._connections):  # the writer's last: closing it moves the log into the database
            connection.close()
        self._connections.clear()
        if self._file is not None:
            os.close(self._file)  # last: see `wipe`
            self._file = None
        if self._place is not None:
            self._place.close()
            self._place = None
        self._lock.release()
