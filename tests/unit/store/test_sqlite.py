"""What is particular to the embedded store: its files, and real faults."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from lightmem_server.errors import OverloadedError, StoreError, StoreVersionError
from lightmem_server.store.protocol import Change, JobRecord
from lightmem_server.store.run_protocol import RunTag
from lightmem_server.store.schema import read_migrations
from lightmem_server.store.sqlite import DATABASE_NAME, LOCK_NAME, REQUEST_MEMORY_MICROS, SqliteStore
from lightmem_server.types import Partition
from tests.contract.store_records import USER, make_change, make_id, make_memory
from tests.unit.store import commit_loop

ROOT = Path(__file__).parents[3]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def open_store(data_dir: Path, now: Callable[[], int] | None = None) -> SqliteStore:
    store = SqliteStore(data_dir, now=now) if now else SqliteStore(data_dir)
    await store.open()
    return store


async def write_store(data_dir: Path, commits: int = 3) -> None:
    store = await open_store(data_dir)
    for number in range(commits):
        await store.commit(make_change([make_memory(f"{number} " + "x" * 2000)]))
    await store.close()


def start(module: str, data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.unit.store.{module}", data_dir], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Files


async def test_only_the_owner_can_read_the_files(data_dir: Path) -> None:
    old_mask = os.umask(0)
    try:
        store = await open_store(data_dir)
        await store.commit(make_change([make_memory()]))
        modes = {file.name: mode(file) for file in files(data_dir)}
        await store.close()
    finally:
        os.umask(old_mask)
    assert mode(data_dir) == 0o700
    names = {DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", LOCK_NAME}
    assert modes == dict.fromkeys(names, 0o600)


async def test_deleted_text_is_gone_from_the_files(data_dir: Path) -> None:
    secret = "Zanzibar-4711"
    store = await open_store(data_dir)
    memory = make_memory(f"my word is {secret} " + "x" * 6000, session_id=secret, metadata={"word": secret})
    short = make_memory(secret)
    await store.commit(make_change([make_memory("before"), memory, short, make_memory("after")]))
    await store.commit(Change(USER, deletes=[memory.id, short.id]))
    await store.close()
    assert [file.name for file in files(data_dir) if secret.encode() in file.read_bytes()] == []


async def test_deleted_text_is_gone_from_steps_and_history_too(data_dir: Path) -> None:
    secret = "Zanzibar-4711"
    store = await open_store(data_dir)
    turn = make_memory(f"my word is {secret}")
    await store.commit(make_change([turn], jobs=[JobRecord("consolidate")]))
    job = await store.claim_job(["consolidate"], owner="w", lease_micros=1, now=0)
    assert job is not None
    run = await store.begin_run(
        USER, job_id=job.job_id, owner="w", cause="", model="", prompt="", watermark="consolidate", now=0
    )
    assert run is not None
    await store.save_step(RunTag(run.run_id, "w", "facts", "1"), f"said {secret} " + "x" * 6000, [turn.id])
    await store.commit(Change(USER, puts=[replace(turn, metadata={"word": secret}, version=2)]))
    await store.commit(Change(USER, puts=[replace(turn, text="", version=3)]))
    await store.commit(Change(USER, deletes=[turn.id]))
    await store.close()
    assert [file.name for file in files(data_dir) if secret.encode() in file.read_bytes()] == []


async def test_second_opener_is_refused(data_dir: Path) -> None:
    store = await open_store(data_dir)
    with pytest.raises(StoreError, match="another LightMem server"):
        await open_store(data_dir)
    await store.commit(make_change([make_memory()]))
    await store.close()
    await (await open_store(data_dir)).close()


async def test_second_opener_through_a_link_is_refused(data_dir: Path, tmp_path: Path) -> None:
    """Another folder, and the same database: two servers would miss each other's versions."""
    store = await open_store(data_dir)
    other = tmp_path / "other"
    other.mkdir()
    (other / DATABASE_NAME).symlink_to(data_dir / DATABASE_NAME)
    with pytest.raises(StoreError, match="another"):
        await open_store(other)
    await store.close()
    again = await open_store(other)
    with pytest.raises(StoreError, match="another"):
        await open_store(data_dir)
    await again.close()


async def test_opening_twice_is_opening_once(data_dir: Path) -> None:
    store = await open_store(data_dir)
    await store.open()
    await store.commit(make_change([make_memory()]))
    await store.close()
    await (await open_store(data_dir)).close()  # nothing of the second opening is left


# Requests are remembered a while


async def test_old_requests_are_forgotten_and_young_ones_are_not(data_dir: Path) -> None:
    now = 1_000_000_000_000_000
    store = await open_store(data_dir, now=lambda: now)
    await store.commit(make_change(request_id="old"))
    now += REQUEST_MEMORY_MICROS
    await store.commit(make_change(request_id="young"))
    assert await store.find_request(USER, "old", b"") is not None
    now += REQUEST_MEMORY_MICROS
    await store.commit(make_change())
    assert await store.find_request(USER, "old", b"") is None
    assert await store.find_request(USER, "young", b"") is not None
    await store.close()


# Databases that must not be touched


@pytest.fixture
def untouched(data_dir: Path) -> Iterator[Path]:
    """A database file that nobody may change; the test writes it."""
    data_dir.mkdir()
    path = data_dir / DATABASE_NAME
    yield path
    assert path.read_bytes() == path.with_suffix(".copy").read_bytes()


def keep_copy(path: Path, content: bytes | None = None) -> None:
    """Remember the content; None: as it is."""
    if content is not None:
        path.write_bytes(content)
    path.with_suffix(".copy").write_bytes(path.read_bytes())


async def test_newer_database_is_refused(untouched: Path) -> None:
    await write_store(untouched.parent)
    connection = apsw.Connection(str(untouched))
    connection.pragma("user_version", len(read_migrations()) + 1)
    connection.close()
    keep_copy(untouched)
    with pytest.raises(StoreVersionError, match="newer LightMem"):
        await open_store(untouched.parent)


async def test_database_of_another_program_is_refused(untouched: Path) -> None:
    connection = apsw.Connection(str(untouched))
    connection.execute("CREATE TABLE memory (x)")
    connection.close()
    keep_copy(untouched)
    with pytest.raises(StoreError, match="another program"):
        await open_store(untouched.parent)


@pytest.mark.parametrize(
    "content", [b"not a database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000], ids=["text", "header"]
)
async def test_garbage_is_refused(untouched: Path, content: bytes) -> None:
    keep_copy(untouched, content)
    with pytest.raises(StoreError):
        await open_store(untouched.parent)
    with pytest.raises(StoreError, match="not a SQLite database"):  # the lock was let go: not "another server"
        await open_store(untouched.parent)


async def test_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreError, match=str(file)):
        await open_store(file)


# Damage


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def spoil(path: Path, begin: float, end: float) -> None:
    """Overwrite pages from one share of the file to another, but never the first, as a failing disk does."""
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    first, last = max(1, int(pages * begin)) * 4096, int(pages * end) * 4096
    content[first:last] = b"\xaa" * (last - first)
    path.write_bytes(content)


async def test_truncated_database_is_refused(data_dir: Path) -> None:
    await write_store(data_dir, commits=100)
    truncate(data_dir / DATABASE_NAME)
    with pytest.raises(StoreError, match="damaged"):
        await open_store(data_dir)


async def test_spoilt_schema_is_refused(data_dir: Path) -> None:
    await write_store(data_dir, commits=100)
    spoil(data_dir / DATABASE_NAME, 0, 1)
    with pytest.raises(StoreError, match="damaged"):
        await open_store(data_dir)


@pytest.mark.parametrize(
    "damage", [lambda path: spoil(path, 0, 1), lambda path: os.truncate(path, 0)], ids=["spoilt", "emptied"]
)
async def test_damage_while_open_is_found(data_dir: Path, damage: Callable[[Path], None]) -> None:
    await write_store(data_dir, commits=100)
    store = await open_store(data_dir)
    damage(data_dir / DATABASE_NAME)
    assert await store.check() != []
    with pytest.raises(StoreError, match="damaged"):
        await store.changes_since(USER, None)
    await store.close()


async def test_spoilt_pages_are_found_and_not_returned(data_dir: Path) -> None:
    await write_store(data_dir, commits=100)
    spoil(data_dir / DATABASE_NAME, 0.4, 0.6)
    store = await open_store(data_dir)
    assert await store.check() != []
    with pytest.raises(StoreError):
        await store.changes_since(USER, None)
    await store.close()


# Faults


async def test_acknowledged_commits_survive_sigkill(data_dir: Path) -> None:
    acknowledged = dict.fromkeys(commit_loop.USERS, 0)
    for _ in range(4):
        with start("commit_loop", data_dir) as process:
            assert process.stdout is not None
            for _ in range(300):
                user_id, version = process.stdout.readline().split()
                acknowledged[user_id] = int(version)
            process.kill()
            for line in process.stdout.read().splitlines(keepends=True):  # acknowledged before the kill as well
                if line.endswith("\n"):
                    user_id, version = line.split()
                    acknowledged[user_id] = int(version)
        store = await open_store(data_dir)
        assert await store.check() == []
        for user_id, acknowledged_version in acknowledged.items():
            await assert_whole(store, user_id, at_least=acknowledged_version)
        await store.close()


async def assert_whole(store: SqliteStore, user_id: str, *, at_least: int) -> None:
    """The partition is exactly what its first `version` commits make of it."""
    changes = await store.changes_since(Partition("default", user_id), None)
    assert changes.version >= at_least
    expected: list[uuid.UUID] = []
    for version in range(1, changes.version + 1):
        if commit_loop.is_deletion(version):
            del expected[-commit_loop.RECORDS_PER_COMMIT :]
        else:
            expected += commit_loop.ids_of(user_id, version)
    assert [row.memory.id for row in changes.rows] == expected
    assert all(row.vector is not None for row in changes.rows)
    replay = await store.commit(commit_loop.next_change(user_id, 1))
    assert (replay.is_replay, replay.request_result) == (True, b"1")


def test_full_disk_refuses_commits_until_there_is_room(data_dir: Path) -> None:
    with start("full_disk", data_dir) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output


async def test_too_many_commits_at_once_are_refused(data_dir: Path) -> None:
    """Refused in `GroupWriter`; here only that the setting arrives there."""
    store = SqliteStore(data_dir, max_waiting_commits=0)
    await store.open()
    with pytest.raises(OverloadedError):
        await store.commit(make_change([make_memory()]))
    await store.record_access(USER, [make_id()], 0)  # statistics are dropped, not refused
    await store.close()
