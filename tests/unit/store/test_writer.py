"""Group commit, on real connections; gates hold the writing thread so that groups form as the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import apsw
import pytest

from lightmem_server.errors import DiskError, NotFoundError, OverloadedError, StoreError
from lightmem_server.store.connection import open_connection, to_writer
from lightmem_server.store.writer import MAX_GROUP, GroupWriter

MAX_WAITING = 200


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def connection(path: Path) -> Iterator[apsw.Connection]:
    connection = open_connection(path, cache_bytes=1 << 20)
    to_writer(connection)
    connection.execute("CREATE TABLE item (name TEXT UNIQUE NOT NULL)")
    connection.execute("CREATE TABLE part (name TEXT REFERENCES item (name) DEFERRABLE INITIALLY DEFERRED)")
    yield connection
    connection.close()


@pytest.fixture
def writer(connection: apsw.Connection) -> Iterator[GroupWriter]:
    writer = GroupWriter(connection, max_waiting=MAX_WAITING)
    writer.start()
    yield writer
    writer.close()


class Gate:
    """Work that holds the writing thread until it is opened: what is submitted meanwhile is one group."""

    def __init__(self, writer: GroupWriter) -> None:
        self._open = threading.Event()
        reached = threading.Event()

        def wait(_: apsw.Connection) -> None:
            reached.set()
            self._open.wait()

        self.future = writer.submit(wait)
        reached.wait()

    def open(self) -> None:
        self._open.set()


def insert(name: str | None) -> Callable[[apsw.Connection], str | None]:
    def work(connection: apsw.Connection) -> str | None:
        connection.execute("INSERT INTO item VALUES (?)", (name,))
        return name

    return work


def insert_orphan(connection: apsw.Connection) -> None:
    """Breaks a deferred constraint, so that COMMIT itself fails."""
    connection.execute("INSERT INTO part VALUES ('missing')")


def names(path: Path) -> list[str]:
    connection = open_connection(path, cache_bytes=1 << 20)
    found = [str(row[0]) for row in connection.execute("SELECT name FROM item ORDER BY name")]
    connection.close()
    return found


def test_result_comes_after_the_commit(writer: GroupWriter, path: Path) -> None:
    assert writer.submit(insert("a")).result() == "a"
    assert names(path) == ["a"]


def test_waiting_work_shares_one_transaction(writer: GroupWriter, path: Path) -> None:
    gate = Gate(writer)
    first = writer.submit(insert("a"))
    seen_by_others = writer.submit(lambda _: names(path))
    seen_inside = writer.submit(lambda connection: connection.execute("SELECT count(*) FROM item").get)
    gate.open()
    assert (seen_by_others.result(), seen_inside.result(), first.result()) == ([], 1, "a")
    assert names(path) == ["a"]


def test_group_is_bounded(writer: GroupWriter, path: Path) -> None:
    gate = Gate(writer)
    futures: list[Future[str | None]] = [writer.submit(insert(f"{i:03}")) for i in range(MAX_GROUP)]
    committed = writer.submit(lambda _: names(path))
    gate.open()
    assert len(committed.result()) == MAX_GROUP
    assert all(future.done() for future in futures)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(NotFoundError("no"), NotFoundError), (ValueError("a defect"), ValueError)],
    ids=["refused", "defect"],
)
def test_failing_work_is_undone_alone(
    writer: GroupWriter, path: Path, error: Exception, expected: type[Exception]
) -> None:
    def fail(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO item VALUES ('half')")
        raise error

    gate = Gate(writer)
    first, failing, last = writer.submit(insert("a")), writer.submit(fail), writer.submit(insert("b"))
    gate.open()
    with pytest.raises(expected):
        failing.result()
    assert (first.result(), last.result()) == ("a", "b")
    assert names(path) == ["a", "b"]


def test_row_that_breaks_a_constraint_fails_alone(writer: GroupWriter, path: Path) -> None:
    gate = Gate(writer)
    futures: list[Future[str | None]] = [writer.submit(insert(name)) for name in ("a", "a", None, "b")]
    gate.open()
    assert [type(future.exception()) for future in futures] == [type(None), StoreError, StoreError, type(None)]
    assert names(path) == ["a", "b"]


def test_failed_commit_fails_its_group_and_the_writer_goes_on(writer: GroupWriter, path: Path) -> None:
    gate = Gate(writer)
    group: list[Future[Any]] = [writer.submit(insert("a")), writer.submit(insert_orphan), writer.submit(insert("b"))]
    gate.open()
    errors = [future.exception() for future in group]
    assert [type(error) for error in errors] == [StoreError] * 3
    assert len(set(map(id, errors))) == 3
    assert names(path) == []
    assert writer.submit(insert("c")).result() == "c"
    assert names(path) == ["c"]


def test_work_cancelled_before_it_begins_is_not_done(writer: GroupWriter, path: Path) -> None:
    gate = Gate(writer)
    cancelled, kept = writer.submit(insert("a")), writer.submit(insert("b"))
    assert cancelled.cancel()
    assert not gate.future.cancel(), "it has begun"
    gate.open()
    assert kept.result() == "b"
    with pytest.raises(CancelledError):
        cancelled.result()
    assert names(path) == ["b"]


def test_too_much_waiting_work_is_refused_with_a_time(writer: GroupWriter, path: Path) -> None:
    gate = Gate(writer)
    futures = [writer.submit(insert(f"{i:03}")) for i in range(MAX_WAITING)]
    with pytest.raises(OverloadedError) as caught:
        writer.submit(insert("over"))
    assert caught.value.retry_after_seconds > 0
    gate.open()
    assert [future.result() for future in futures] == names(path)


def test_close_finishes_what_waits_and_refuses_the_rest(writer: GroupWriter, path: Path) -> None:
    gate = Gate(writer)
    futures = [writer.submit(insert(f"{i:03}")) for i in range(MAX_WAITING)]
    gate.open()
    writer.close()
    assert [future.result() for future in futures] == names(path)
    with pytest.raises(StoreError):
        writer.submit(insert("late"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_ever_when_the_thread_dies(connection: apsw.Connection) -> None:
    writer = GroupWriter(connection, max_waiting=MAX_WAITING)
    writer.start()
    gate = Gate(writer)
    breaking: Future[Any] = writer.submit(lambda broken: broken.close(True))
    fill: list[Future[Any]] = [writer.submit(insert(f"{i:03}")) for i in range(MAX_WAITING - 1)]  # more than one group
    gate.open()
    assert {type(future.exception()) for future in [breaking, *fill]} == {DiskError}, "health follows these"
    writer.close()
    with pytest.raises(DiskError, match="restart"):
        writer.submit(insert("late"))


def test_log_is_emptied_after_a_deletion(connection: apsw.Connection, path: Path) -> None:
    log_path = path.with_name(path.name + "-wal")
    for deletes in (False, True):
        writer = GroupWriter(connection, max_waiting=MAX_WAITING)
        writer.start()
        writer.submit(insert(str(deletes)), deletes=deletes).result()
        writer.close()
        assert (log_path.stat().st_size == 0) == deletes


class ObservedConnection(apsw.Connection):
    """Says when a checkpoint was tried."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.tried = threading.Semaphore(0)

    def wal_checkpoint(self, dbname: str | None = None, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE) -> tuple[int, int]:
        try:
            return super().wal_checkpoint(dbname, mode)
        finally:
            self.tried.release()


def test_log_is_emptied_once_the_reader_in_its_way_is_gone(connection: apsw.Connection, path: Path) -> None:
    log_path = path.with_name(path.name + "-wal")
    observed = ObservedConnection(path)
    to_writer(observed)
    writer = GroupWriter(observed, max_waiting=MAX_WAITING)
    writer.start()
    writer.submit(insert("a")).result()
    reader = open_connection(path, cache_bytes=1 << 20)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM item").fetchall()
    writer.submit(insert("b"), deletes=True).result()
    observed.tried.acquire()
    assert log_path.stat().st_size > 0
    reader.close(True)
    observed.tried.acquire()  # tried again, though nothing is written
    writer.close()
    assert log_path.stat().st_size == 0
    observed.close()


def test_log_is_not_emptied_while_it_is_kept(connection: apsw.Connection, path: Path) -> None:
    observed = ObservedConnection(path)
    to_writer(observed)
    writer = GroupWriter(observed, max_waiting=MAX_WAITING)
    writer.start()
    with writer.keep_log():
        writer.submit(insert("a"), deletes=True).result()
        writer.submit(insert("b")).result()  # the first one's turn for a checkpoint is over
        assert not observed.tried.acquire(blocking=False)
    observed.tried.acquire()
    writer.close()
    assert path.with_name(path.name + "-wal").stat().st_size == 0
    observed.close()


def test_log_is_moved_into_the_database_as_it_grows(writer: GroupWriter, path: Path) -> None:
    for i in range(30):
        writer.submit(insert(f"{i:03}" + "x" * 400_000)).result()
    writer.close()
    assert path.stat().st_size > 8_000_000
    assert path.with_name(path.name + "-wal").stat().st_size < 8_000_000
