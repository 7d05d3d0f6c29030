"""A store says when it cannot be durable, and when it can again; on real faults."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lightmem_server.errors import DamagedError, DiskError, NotFoundError, StoreError
from lightmem_server.store.protocol import Change
from lightmem_server.store.sqlite import DATABASE_NAME, SqliteStore
from lightmem_server.store.trouble import Trouble, try_room
from tests.contract.store_records import USER, make_change, make_id, make_memory
from tests.unit.store.test_sqlite import data_dir, files, open_store, spoil, write_store

__all__ = ["data_dir"]

FULL, DAMAGED = DiskError("full"), DamagedError("damaged")


async def test_whoever_waits_is_told_and_told_again() -> None:
    trouble = Trouble()
    waiting = asyncio.ensure_future(trouble.wait())
    trouble.meet(FULL)
    assert await waiting is FULL
    assert await trouble.wait() is FULL
    trouble.commit_succeeded()
    again = asyncio.ensure_future(trouble.wait())
    await asyncio.sleep(0)
    assert not again.done()
    trouble.meet(DAMAGED)
    assert await again is DAMAGED


async def test_damage_is_not_over_because_something_could_be_written() -> None:
    trouble = Trouble()
    trouble.meet(DAMAGED)
    trouble.meet(FULL)
    trouble.commit_succeeded()
    assert await trouble.wait() is DAMAGED
    trouble.end()
    assert trouble.error is None


async def test_what_callers_do_wrong_is_no_trouble(data_dir: Path) -> None:
    store = await open_store(data_dir)
    with pytest.raises(NotFoundError):
        await store.commit(Change(USER, deletes=[make_id()]))
    waiting = asyncio.ensure_future(store.wait_trouble())
    await store.commit(make_change([make_memory()]))
    assert not waiting.done()
    waiting.cancel()
    await store.close()


async def test_probe_changes_nothing(data_dir: Path) -> None:
    store = await open_store(data_dir)
    await store.commit(make_change([make_memory()]))
    before = files(data_dir)
    await store.probe()
    assert files(data_dir) == before
    assert (await store.changes_since(USER, None)).version == 1
    await store.close()


async def test_damage_that_a_read_meets_is_trouble_until_it_is_gone(data_dir: Path) -> None:
    await write_store(data_dir, commits=100)
    database = data_dir / DATABASE_NAME
    whole = database.read_bytes()
    spoil(database, 0.4, 0.6)
    store = await open_store(data_dir)
    with pytest.raises(DamagedError):
        await store.changes_since(USER, None)
    assert isinstance(await store.wait_trouble(), DamagedError)
    await store.commit(make_change(partition=USER))  # sound parts can still be written
    with pytest.raises(StoreError):
        await store.probe()
    await store.close()
    database.write_bytes(whole)
    store = SqliteStore(data_dir)
    await store.open()
    await store.probe()
    await store.close()


def test_no_right_to_write_is_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="missing"):
        try_room(tmp_path / "missing")
