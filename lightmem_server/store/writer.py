"""Group commit: one thread owns the writing connection and commits all waiting work with one sync.

    submit ─▶ bounded queue ─▶ BEGIN ─▶ [SAVEPOINT work RELEASE] ... ─▶ COMMIT (one fsync) ─▶ every future ─▶ checkpoint

While one group is synced to disk the next one gathers, so the groups grow with the load and a lone commit never waits.
A piece of work that fails is rolled back to its savepoint and fails alone. Checkpoints come after the futures are
resolved: nobody waits for them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import apsw
import structlog

from lightmem_server.errors import DiskError, OverloadedError, StoreError
from lightmem_server.store.connection import BUSY_TIMEOUT_MS, to_store_error

R = TypeVar("R")

MAX_GROUP = 128
"""Most pieces of work in one transaction: bounds how long its first waits, and the memory that a rollback needs."""

CHECKPOINT_PAGES = 1000
"""Pages of log after which they are moved into the database."""

TRUNCATE_PAGES = 16_000
"""Pages of log (64 MB) after which readers are waited for, so that the log can start anew."""

CHECKPOINT_BUSY_MS = 100

TRUNCATE_RETRY_SECONDS = 1.0
"""After which emptying the log of deleted bytes is tried again when a reader was in its way."""

STOPPED = "the store has stopped: nothing can be written before the server is restarted"
"""A defect has ended the writing thread. As with a disk that is gone, health says so."""

OWN_FAULTS = (apsw.ConstraintError, apsw.TooBigError, apsw.MismatchError)
"""Failures that leave the transaction whole: only the work that met them fails."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Waiting:
    work: Callable[[apsw.Connection], Any]
    future: Future[Any]
    deletes: bool
    is_alone: bool = False


class _Savepoint:
    """Runs one piece of work so that its failure undoes it alone; failures of the disk go on to the whole group."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.result: Any = None
        self.error: BaseException | None = None

    def __enter__(self) -> _Savepoint:
        self._connection.execute("SAVEPOINT work")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, apsw.Error) and not isinstance(error, OWN_FAULTS):
            return False
        if error is not None:
            self.error = to_store_error(error) if isinstance(error, apsw.Error) else error
            self._connection.execute("ROLLBACK TO work")
        self._connection.execute("RELEASE work")
        return True


class GroupWriter:
    """The writing thread."""

    def __init__(
        self, connection: apsw.Connection, *, max_waiting: int, check: Callable[[], None] = lambda: None
    ) -> None:
        """
        Args:
            connection: Used by the writing thread alone from `start` until `close` has returned.
            max_waiting: Pieces of work that may wait; beyond it `submit` refuses.
            check: Raises DiskError where a commit would not be durable, such as in files that were removed; called before a
                group is begun, and again before anybody is told that it is on disk.
        """
        self._connection = connection
        self._check = check
        self._max_waiting = max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._group: list[_Waiting] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._has_stopped = False
        self._seconds_each = 0.001
        self._log_pages = 0
        self._truncate_due = False
        self._log_keepers = 0
        self._thread = threading.Thread(target=self._run, name="lightmem-store-writer", daemon=True)

    def start(self) -> None:
        """Begin to work. Takes over checkpoints from SQLite, which would make a commit wait for them."""
        self._connection.set_wal_hook(self._note_log)
        self._thread.start()

    def submit(self, work: Callable[[apsw.Connection], R], *, deletes: bool = False) -> Future[R]:
        """Have work done in a transaction; never blocks. The future is resolved once it is on disk.

        Work that is cancelled before it begins is not done. `work` runs in the writing thread, must only use the
        connection, and raises to undo itself.

        Args:
            work: What to do.
            deletes: The log is emptied soon after: until then it still holds the bytes that were deleted.

        Raises:
            OverloadedError: Too much waits.
            StoreError: Closed.
        """
        return self._put(_Waiting(work, Future(), deletes))

    def submit_alone(self, work: Callable[[apsw.Connection], R]) -> Future[R]:
        """Have work done after what waits already, outside of a transaction. Else as `submit`."""
        return self._put(_Waiting(work, Future(), deletes=False, is_alone=True))

    def _put(self, waiting: _Waiting) -> Future[Any]:
        with self._changed:
            if self._has_stopped:
                raise DiskError(STOPPED)
            if self._is_closing:
                raise StoreError("the store is closed")
            if len(self._waiting) >= self._max_waiting:
                seconds = min(5.0, max(0.05, self._seconds_each * len(self._waiting)))
                raise OverloadedError(f"{self._max_waiting} commits wait already", retry_after_seconds=seconds)
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.future

    @contextmanager
    def keep_log(self) -> Iterator[None]:
        """For whoever reads for long: meanwhile nobody tries to empty the log, and waits for that reader after every group."""
        with self._changed:
            self._log_keepers += 1
        try:
            yield
        finally:
            with self._changed:
                self._log_keepers -= 1
                self._changed.notify()

    def close(self) -> None:
        """Finish what waits, then stop; blocks until it has. Safe to call twice."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take_group():
                if self._group:
                    self._commit()
                self._checkpoint()
        finally:
            # With work left only when a defect ends the thread: nobody may wait for ever.
            with self._changed:
                self._has_stopped = not self._is_closing or bool(self._waiting or self._group)
                self._is_closing = True
                for waiting in self._waiting:
                    if waiting.future.set_running_or_notify_cancel():
                        self._group.append(waiting)
                self._waiting.clear()
            for waiting in self._group:
                if not waiting.future.done():
                    waiting.future.set_exception(DiskError(STOPPED))

    def _take_group(self) -> bool:
        """Wait for work and make it the group, which is empty when all was cancelled, or when only a checkpoint that a
        reader was in the way of is to be tried again. False when closing and nothing is left."""
        with self._changed:
            if not self._waiting and not self._is_closing:
                self._changed.wait(TRUNCATE_RETRY_SECONDS if self._truncate_due else None)
            if not self._waiting and self._is_closing:
                return False
            while self._waiting and len(self._group) < MAX_GROUP:
                if self._group and self._waiting[0].is_alone:
                    break
                waiting = self._waiting.popleft()
                if waiting.future.set_running_or_notify_cancel():
                    self._group.append(waiting)
                    if waiting.is_alone:
                        break
        return True

    def _commit(self) -> None:
        if self._group[0].is_alone:
            self._do_alone(self._group.pop())
            return
        began = time.monotonic()
        try:
            self._check()
            outcomes = self._apply()
            self._check()
        except (apsw.Error, DiskError) as error:
            log.warning("commit_failed", error=str(error), changes=len(self._group))
            self._roll_back()
            for waiting in self._group:  # an exception each: raising one adds to its traceback
                waiting.future.set_exception(
                    to_store_error(error) if isinstance(error, apsw.Error) else type(error)(error.message)
                )
        else:
            self._truncate_due |= any(waiting.deletes for waiting in self._group)
            for waiting, outcome in zip(self._group, outcomes, strict=True):
                if outcome.error is not None:
                    waiting.future.set_exception(outcome.error)
                else:
                    waiting.future.set_result(outcome.result)
        self._seconds_each += 0.1 * ((time.monotonic() - began) / len(self._group) - self._seconds_each)
        self._group.clear()

    def _apply(self) -> list[_Savepoint]:
        outcomes = []
        self._connection.execute("BEGIN IMMEDIATE")
        for waiting in self._group:
            with _Savepoint(self._connection) as savepoint:
                savepoint.result = waiting.work(self._connection)
            outcomes.append(savepoint)
        self._connection.execute("COMMIT")
        return outcomes

    def _do_alone(self, waiting: _Waiting) -> None:
        try:
            self._check()
            result = waiting.work(self._connection)
        except DiskError as error:
            waiting.future.set_exception(error)
        except apsw.Error as error:
            self._roll_back()
            waiting.future.set_exception(to_store_error(error))
        except OSError as error:
            waiting.future.set_exception(StoreError(f"the disk could not be read or written ({error.strerror})"))
        else:
            waiting.future.set_result(result)

    def _roll_back(self) -> None:
        """End the failed transaction, unless SQLite has done so already."""
        if not self._connection.in_transaction:
            return
        try:
            self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            # The transaction is over even so; were it not, the next BEGIN would fail and bring us here again.
            log.warning("rollback_failed", error=str(error))

    def _note_log(self, _connection: apsw.Connection, _schema: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        """Move the log into the database where it has grown, and empty it where deleted bytes are in it."""
        with self._changed:
            is_idle, is_kept = not self._waiting, self._log_keepers > 0
        must_truncate = not is_kept and (self._log_pages >= TRUNCATE_PAGES or (self._truncate_due and is_idle))
        if not must_truncate and self._log_pages < CHECKPOINT_PAGES:
            return
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if must_truncate else apsw.SQLITE_CHECKPOINT_PASSIVE
        self._connection.set_busy_timeout(CHECKPOINT_BUSY_MS)
        try:
            self._connection.wal_checkpoint(mode=mode)
        except apsw.BusyError:
            return  # a reader is at work: again after the next group, or soon
        except apsw.Error as error:
            # Nothing is lost: the commits are in the log, and the next checkpoint tries again.
            log.warning("checkpoint_failed", error=str(error))
            return
        finally:
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        if must_truncate:
            self._truncate_due = False
            self._log_pages = 0
