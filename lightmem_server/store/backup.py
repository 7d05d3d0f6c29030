"""Backups: a consistent copy of the database beside it, made while the server goes on; and the way back.

    copy page by page ─▶ .NAME.partial ─▶ check, compare counts ─▶ sync ─▶ rename to NAME ─▶ sync the folder

The reading connection holds one transaction from the first page to the last count: the copy shows one moment, and neither
do commits wait for it nor does it begin anew after each, as SQLite's backup does without one. What it costs is log: nothing
that is committed meanwhile can leave it. Refused: `VACUUM INTO`, which tells no progress and takes the indexes apart; a copy
of the files, which is whole only while nobody writes.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path

import apsw

from lightmem_server.errors import PreconditionError, StoreError
from lightmem_server.store.backup_protocol import BackupProgress, BackupStage
from lightmem_server.store.connection import open_connection, open_read_only, store_errors
from lightmem_server.store.schema import APPLICATION_ID, check_version, read_migrations

BACKUPS_NAME = "backups"
STEP_PAGES = 256
"""Pages (1 MiB) between two looks at whether to go on."""

CACHE_BYTES = 4 << 20
CANCEL_INSTRUCTIONS = 100_000
"""Instructions of SQLite between two looks at whether to go on, while it checks: a few ms."""

PARTIAL = ".partial"


class _CancelledError(Exception):
    """Nobody waits for the copy any more."""


class Copying:
    """One copy of a database. `run` blocks; `cancel` and `progress` are for other threads."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source = source
        self._target = target
        self._is_cancelled = threading.Event()
        self.progress = BackupProgress()

    def cancel(self) -> None:
        """Let `run` end soon, with nothing left."""
        self._is_cancelled.set()

    def run(self, report: Callable[[], None]) -> BackupProgress | None:
        """Copy, verify, and give the copy its name. `report` is called after `progress` has changed.

        Returns:
            How it ended; None when it was cancelled.

        Raises:
            PreconditionError: The target is there already.
            StoreError, StoreVersionError: The source is not ours, newer or damaged; the disk refused.
        """
        partial = partial_of(self._target)
        try:
            with store_errors(str(self._target)):
                self._target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._target.exists():
                    raise PreconditionError(f"{self._target} is there already", reason="BACKUP_EXISTS")
                remove_partial(partial)
                with self._open_source() as source:
                    self._copy(source, partial, report)
                    self._verify(source, partial)
                _sync(partial)
                partial.rename(self._target)
                _sync(self._target.parent)
                size_bytes = self._target.stat().st_size
        except _CancelledError:
            return None
        finally:
            remove_partial(partial)
        pages = self.progress.total_pages
        return BackupProgress(BackupStage.DONE, pages, pages, str(self._target), size_bytes)

    @contextmanager
    def _open_source(self) -> Iterator[apsw.Connection]:
        with store_errors(str(self._source)):
            source = open_read_only(self._source)
        with closing(source):
            with store_errors(str(self._source)):
                source.pragma("cache_size", -(CACHE_BYTES // 1024))
                source.execute("BEGIN")  # from the first read on it sees one moment, until it is closed
                check_version(source, len(read_migrations()))
                if source.pragma("application_id") != APPLICATION_ID:
                    raise StoreError(f"{self._source} holds no memories of LightMem")
            yield source

    def _copy(self, source: apsw.Connection, partial: Path, report: Callable[[], None]) -> None:
        self._check_room(source)
        with closing(open_connection(partial, cache_bytes=CACHE_BYTES)) as copy:
            copy.pragma("journal_mode", "off")  # a copy that fails is thrown away
            copy.pragma("synchronous", "off")  # it is synced once it is whole
            with copy.backup("main", source, "main") as backup:
                while not backup.done:
                    self._check_cancelled()
                    backup.step(STEP_PAGES)
                    done, total = backup.page_count - backup.remaining, backup.page_count
                    self.progress = BackupProgress(BackupStage.COPY, done, total)
                    report()
        self.progress = BackupProgress(BackupStage.VERIFY, total, total)
        report()

    def _check_room(self, source: apsw.Connection) -> None:
        """Refuse a copy that would fill the disk up: the server would have to refuse writes."""
        needed = int(source.pragma("page_count")) * int(source.pragma("page_size"))
        space = os.statvfs(self._target.parent)
        free = space.f_bavail * space.f_frsize
        if free < needed:
            raise StoreError(f"the disk has {free >> 20} MiB free, the copy needs {needed >> 20}")

    def _verify(self, source: apsw.Connection, partial: Path) -> None:
        """Read the copy back from the disk: sound, and every table with as many rows as the source."""
        with closing(open_connection(partial, cache_bytes=CACHE_BYTES)) as copy:
            copy.pragma("journal_mode", "delete")  # one file, without a log beside it
            for connection in (source, copy):
                connection.set_progress_handler(self._is_cancelled.is_set, CANCEL_INSTRUCTIONS)
            try:
                findings = copy.execute("PRAGMA integrity_check").fetchall()
                orphans = copy.execute("PRAGMA foreign_key_check").fetchall()
                counts = _count_rows(copy), _count_rows(source)
            except apsw.InterruptError:
                raise _CancelledError from None
        self._check_cancelled()
        if findings != [("ok",)] or orphans:
            raise StoreError(f"the copy is damaged, as {self._source} may be: {[*findings, *orphans][0]}")
        if counts[0] != counts[1]:
            raise StoreError("the copy has not the rows of what was copied")

    def _check_cancelled(self) -> None:
        if self._is_cancelled.is_set():
            raise _CancelledError


class Backups:
    """The backups of one open store, one at a time, in a thread of their own."""

    def __init__(
        self,
        database: Path,
        folder: Path,
        keep_log: Callable[[], AbstractContextManager[None]] = nullcontext,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            keep_log: Entered while the database is read.
            check: Raises DiskError where the database's files aren't where they were opened; a copy of others would lack what
                was acknowledged.
        """
        self._check = check
        self._database = database
        self._folder = folder
        self._keep_log = keep_log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lightmem-store-backup")
        self._copying: Copying | None = None
        self._is_closed = False
        self._ended_by = ""
        for left in folder.glob(f".*{PARTIAL}"):  # of a process that was killed
            remove_partial(left)

    async def make(self, name: str) -> AsyncGenerator[BackupProgress, None]:
        """See `BackupStore.backup`."""
        if self._is_closed:
            raise StoreError("the store is closed")
        if self._copying is not None:
            raise PreconditionError("another backup is being made", reason="BACKUP_AT_WORK")
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        copying = self._copying = Copying(self._database, self._folder / name)

        def report() -> None:
            loop.call_soon_threadsafe(changed.set)

        ended = loop.run_in_executor(self._thread, self._run, copying, report)
        ended.add_done_callback(lambda _: changed.set())
        try:
            while not ended.done():
                await changed.wait()
                changed.clear()
                if not ended.done():
                    yield copying.progress
            last = await ended
            if last is None:
                raise StoreError(self._ended_by)
            yield last
        finally:
            copying.cancel()
            await asyncio.wait({ended})  # then nothing of an unfinished one is left
            self._copying = None

    def end(self, why: str) -> None:
        """Let the backup at work, if there is one, fail soon."""
        if self._copying is not None:
            self._ended_by = why
            self._copying.cancel()

    def close(self) -> None:
        """End the backup at work; blocks until it has. Refuse further ones."""
        self._is_closed = True
        self.end("the store is closed")
        self._thread.shutdown()

    def _run(self, copying: Copying, report: Callable[[], None]) -> BackupProgress | None:
        self._check()
        with self._keep_log():
            return copying.run(report)


def partial_of(target: Path) -> Path:
    """Where a copy is made before it has its name."""
    return target.with_name(f".{target.name}{PARTIAL}")


def remove_partial(partial: Path) -> None:
    """Remove what an unfinished copy left, with what SQLite may have put beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):  # a folder that was made read-only meanwhile; the next start tries again
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)


def _count_rows(connection: apsw.Connection) -> dict[str, int]:
    names = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').get for name in names}  # noqa: S608  # of our schema


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
