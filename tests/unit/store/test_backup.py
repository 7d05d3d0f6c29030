"""Backups of a store at work, and the way back; on real files."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path

import apsw
import pytest

from lightmem_server.errors import PreconditionError, StoreError
from lightmem_server.store.backup import BACKUPS_NAME, partial_of
from lightmem_server.store.backup_protocol import BackupProgress, BackupStage
from lightmem_server.store.protocol import Change
from lightmem_server.store.restore import restore
from lightmem_server.store.sqlite import DATABASE_NAME, SqliteStore
from tests.contract.store_records import USER, make_change, make_memory
from tests.unit.store.test_sqlite import data_dir, files, mode, open_store, spoil, truncate, write_store

__all__ = ["data_dir"]

BIG_COMMITS = 400
"""So much that a copy takes several steps, of which the first is told before the last is made."""


async def back_up(store: SqliteStore, name: str = "a.db") -> list[BackupProgress]:
    """All moments of a backup."""
    return [moment async for moment in store.backup(name)]


async def fill(store: SqliteStore, commits: int = BIG_COMMITS) -> None:
    """Records of 8 KB."""
    await asyncio.gather(*(store.commit(make_change([make_memory("x" * 8000)])) for _ in range(commits)))


async def read_restored(backup: Path, folder: Path) -> tuple[int, list[str]]:
    """The version and texts of the user in a restored backup."""
    restore(backup, folder, lambda moment: None)
    store = await open_store(folder)
    changes = await store.changes_since(USER, None)
    assert await store.check() == []
    await store.close()
    return changes.version, [row.memory.text for row in changes.rows]


async def test_backup_shows_one_moment_while_commits_go_on(data_dir: Path, tmp_path: Path) -> None:
    store = await open_store(data_dir)
    await fill(store)
    moments = store.backup("a.db")
    first = await anext(moments)
    assert 0 < first.done_pages < first.total_pages, "it is at work when the commits come"
    for number in range(20):  # acknowledged while the copy is made, and not in it
        await store.commit(make_change([make_memory(f"later {number}")]))
    seen = [first, *[moment async for moment in moments]]
    assert [moment.done_pages for moment in seen] == sorted(moment.done_pages for moment in seen)
    assert {moment.stage for moment in seen[:-1]} <= {BackupStage.COPY, BackupStage.VERIFY}
    last, path = seen[-1], data_dir / BACKUPS_NAME / "a.db"
    assert (last.stage, last.path, last.size_bytes) == (BackupStage.DONE, str(path), path.stat().st_size)
    assert (await store.changes_since(USER, None)).version == BIG_COMMITS + 20
    await store.close()
    version, texts = await read_restored(path, tmp_path / "restored")
    assert version == BIG_COMMITS
    assert texts == ["x" * 8000] * BIG_COMMITS


async def test_backup_is_one_file_for_its_owner_alone(data_dir: Path) -> None:
    old_mask = os.umask(0)
    try:
        store = await open_store(data_dir)
        await store.commit(make_change([make_memory()]))
        await back_up(store)
        await store.close()
    finally:
        os.umask(old_mask)
    folder = data_dir / BACKUPS_NAME
    assert (mode(folder), [(file.name, mode(file)) for file in files(folder)]) == (0o700, [("a.db", 0o600)])


async def test_leaving_early_leaves_nothing(data_dir: Path) -> None:
    store = await open_store(data_dir)
    await fill(store)
    async with aclosing(store.backup("a.db")) as moments:
        assert (await anext(moments)).stage is BackupStage.COPY
        assert files(data_dir / BACKUPS_NAME) != []
    assert files(data_dir / BACKUPS_NAME) == []
    assert len(await back_up(store)) > 1, "another can be made"
    await store.close()


async def test_closing_the_store_ends_a_backup_with_nothing_left(data_dir: Path) -> None:
    store = await open_store(data_dir)
    await fill(store)
    moments = store.backup("a.db")
    await anext(moments)
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await anext(moments)
    assert files(data_dir / BACKUPS_NAME) == []
    with pytest.raises(StoreError, match="not open"):
        store.backup("b.db")


async def test_name_that_is_taken_is_refused(data_dir: Path) -> None:
    store = await open_store(data_dir)
    await back_up(store)
    before = (data_dir / BACKUPS_NAME / "a.db").read_bytes()
    await store.commit(make_change([make_memory()]))
    with pytest.raises(PreconditionError) as caught:
        await back_up(store)
    assert caught.value.reason == "BACKUP_EXISTS"
    assert (data_dir / BACKUPS_NAME / "a.db").read_bytes() == before
    await store.close()


async def test_one_backup_at_a_time(data_dir: Path) -> None:
    store = await open_store(data_dir)
    await fill(store)
    async with aclosing(store.backup("a.db")) as moments:
        await anext(moments)
        with pytest.raises(PreconditionError) as caught:
            await back_up(store, "b.db")
        assert caught.value.reason == "BACKUP_AT_WORK"
    await back_up(store, "b.db")
    await store.close()


async def test_damaged_database_gives_no_backup(data_dir: Path) -> None:
    await write_store(data_dir, commits=100)
    spoil(data_dir / DATABASE_NAME, 0.4, 0.6)
    store = await open_store(data_dir)
    with pytest.raises(StoreError, match="damaged"):
        await back_up(store)
    assert files(data_dir / BACKUPS_NAME) == []
    await store.close()


async def test_what_a_killed_process_left_is_removed_by_the_next(data_dir: Path) -> None:
    folder = data_dir / BACKUPS_NAME
    folder.mkdir(parents=True)
    left = partial_of(folder / "a.db")
    for suffix in ("", "-wal", "-shm"):
        left.with_name(left.name + suffix).write_bytes(b"half")
    (folder / "other.db").write_bytes(b"whole")
    store = await open_store(data_dir)
    assert [file.name for file in files(folder)] == ["other.db"]
    await store.close()


async def test_deleted_bytes_leave_the_log_after_the_backup(data_dir: Path) -> None:
    secret = "Zanzibar-4711"
    store = await open_store(data_dir)
    memory = make_memory(secret)
    await store.commit(make_change([memory]))
    await fill(store)
    async with aclosing(store.backup("a.db")) as moments:
        await anext(moments)
        await store.commit(Change(USER, deletes=[memory.id]))
    await store.close()
    assert [file.name for file in files(data_dir) if file.is_file() and secret.encode() in file.read_bytes()] == []


async def test_an_erasure_ends_a_backup_that_could_hold_the_users_words(data_dir: Path) -> None:
    store = await open_store(data_dir)
    for attempt in range(
        50
    ):  # until an erasure comes while one is at work: on a busy machine the copy may be done sooner
        await fill(store)
        moments = store.backup(f"{attempt}.db")
        await anext(moments)
        await store.erase(USER, now=1)
        await store.wipe()
        failure = ""
        try:
            async for _ in moments:
                pass
        except StoreError as error:
            failure = error.message
        if failure:
            break
    assert "erased" in failure
    assert f"{attempt}.db" not in str(files(data_dir / BACKUPS_NAME))
    await back_up(store)
    assert b"x" * 100 not in (data_dir / BACKUPS_NAME / "a.db").read_bytes()
    await store.close()


# Restore


@pytest.fixture
async def backup(data_dir: Path) -> Path:
    store = await open_store(data_dir)
    for number in range(100):
        await store.commit(make_change([make_memory(f"{number} " + "x" * 2000)]))
    path = Path((await back_up(store))[-1].path)
    await store.close()
    return path


async def test_restored_store_is_what_was_backed_up(backup: Path, tmp_path: Path) -> None:
    version, texts = await read_restored(backup, tmp_path / "new" / "folder")
    assert version == len(texts) == 100
    assert stat.S_IMODE((tmp_path / "new" / "folder" / DATABASE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"], ids=["database", "log", "journal"])
async def test_restore_overwrites_nothing(backup: Path, tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    present = folder / (DATABASE_NAME + suffix)
    present.write_bytes(b"mine")
    with pytest.raises(PreconditionError, match="already") as caught:
        restore(backup, folder, lambda moment: None)
    assert caught.value.reason == "DATABASE_EXISTS"
    assert present.read_bytes() == b"mine"
    assert [file.name for file in files(folder) if file.name.startswith(DATABASE_NAME)] == [present.name]


async def test_restore_into_the_folder_of_a_server_is_refused(backup: Path, tmp_path: Path) -> None:
    store = await open_store(tmp_path / "busy")
    with pytest.raises(PreconditionError) as caught:
        restore(backup, tmp_path / "busy", lambda moment: None)
    assert caught.value.reason == "DATA_DIR_IN_USE"
    await store.close()


@pytest.mark.parametrize(
    "damage",
    [truncate, lambda path: spoil(path, 0.4, 0.6), lambda path: os.truncate(path, 0)],
    ids=["cut", "spoilt", "emptied"],
)
async def test_damaged_backup_is_not_restored(backup: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(backup)
    with pytest.raises(StoreError):
        restore(backup, tmp_path / "new", lambda moment: None)
    assert [file.name for file in files(tmp_path / "new") if "lightmem.db" in file.name] == []


async def test_lost_rows_are_found(backup: Path, tmp_path: Path) -> None:
    """A copy without damage is not enough: it must have what the source has. (Foreign keys find the lost rows here.)"""
    with closing(apsw.Connection(str(backup))) as connection:
        connection.execute("DELETE FROM partition")
    with pytest.raises(StoreError, match="damaged"):
        restore(backup, tmp_path / "new", lambda moment: None)


async def test_other_files_are_not_restored(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(apsw.Connection(str(other))) as connection:
        connection.execute("CREATE TABLE memory (x)")
    with pytest.raises(StoreError, match="another program"):
        restore(other, tmp_path / "new", lambda moment: None)
    text = tmp_path / "text"
    text.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="not a SQLite database"):
        restore(text, tmp_path / "new", lambda moment: None)
