"""The open database's files: moved, replaced and cut short is told from what SQLite itself does to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from lightmem_server.errors import DamagedError, DiskError
from lightmem_server.store.connection import open_connection, to_writer
from lightmem_server.store.place import Place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def connection(path: Path) -> Iterator[apsw.Connection]:
    connection = open_connection(path, cache_bytes=1 << 20)
    to_writer(connection)
    connection.execute("CREATE TABLE t (x)")
    connection.wal_checkpoint()
    fill(connection)
    yield connection
    connection.close()


@pytest.fixture
def place(path: Path, connection: apsw.Connection) -> Iterator[Place]:
    place = Place(path, page_size=int(connection.pragma("page_size")))
    yield place
    place.close()


def fill(connection: apsw.Connection) -> None:
    with connection:
        connection.executemany("INSERT INTO t VALUES (randomblob(?))", [(3000,)] * 50)


def checkpoint(mode: int) -> Callable[[apsw.Connection], object]:
    return lambda connection: connection.wal_checkpoint(mode=mode)


@pytest.mark.parametrize(
    "work",
    [
        fill,
        lambda connection: connection.execute("DELETE FROM t"),
        checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE),
        checkpoint(apsw.SQLITE_CHECKPOINT_RESTART),
        checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE),
    ],
    ids=["fill", "delete", "passive", "restart", "truncate"],
)
def test_what_sqlite_does_is_fine(
    path: Path, connection: apsw.Connection, place: Place, work: Callable[[apsw.Connection], object]
) -> None:
    place.check()
    other = open_connection(path, cache_bytes=1 << 20)  # such as its shell, in another program
    for worker in (connection, other):
        work(worker)
        place.check()
        fill(connection)
        place.check()
    other.close()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_file_that_was_moved_is_told_until_it_is_back(path: Path, place: Place, suffix: str) -> None:
    file, away = path.with_name(path.name + suffix), path.with_name("away")
    file.rename(away)
    with pytest.raises(DiskError, match="moved or removed"):
        place.check()
    shutil.copy(away, file)
    with pytest.raises(DiskError, match="another file is there"):
        place.check()
    away.replace(file)
    place.check()


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_file_that_was_cut_short_is_told(path: Path, place: Place, suffix: str, share: float) -> None:
    file = path.with_name(path.name + suffix)
    with file.open("r+b") as opened:
        opened.truncate(int(file.stat().st_size * share))
    with pytest.raises(DamagedError, match="cut short"):
        place.check()


def test_a_link_leads_to_the_files(tmp_path: Path, path: Path, connection: apsw.Connection) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    place = Place(link, page_size=int(connection.pragma("page_size")))
    place.check()
    place.close()
