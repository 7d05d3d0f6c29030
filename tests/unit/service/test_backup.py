"""Backups through a whole server and the client: who may, under which name, and what a caller who leaves leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lightmem_client import AsyncClient, BackupProgress
from lightmem_client.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)

from lightmem_server.store.restore import restore
from tests.unit.service.test_consolidation import Running, start


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = await start(tmp_path / "data", "off")
    yield running
    await running.client.close()
    await running.server.stop()


async def back_up(client: AsyncClient, name: str = "") -> list[BackupProgress]:
    return [moment async for moment in client.backup(name, timeout_seconds=30)]


async def test_a_restored_backup_has_what_was_acknowledged_before_it(running: Running, tmp_path: Path) -> None:
    kept = (await running.client.write("I moved to Porto.", request_id="r1")).memory_ids[0]
    moments = await back_up(running.client, "monday.db")
    later = (await running.client.write("After the backup.")).memory_ids[0]
    assert [moment.stage for moment in moments][-2:] == ["verify", "done"]
    path = running.data_dir / "backups" / "monday.db"
    assert (moments[-1].path, moments[-1].size_bytes) == (str(path), path.stat().st_size)
    restore(path, tmp_path / "restored", lambda moment: None)
    (tmp_path / "restored" / "admin.key").write_bytes((running.data_dir / "admin.key").read_bytes())
    other = await start(tmp_path / "restored", "off")
    assert (await other.client.get(kept)).text == "I moved to Porto."
    assert (await other.client.write("I moved to Porto.", request_id="r1")).memory_ids == (kept,)
    with pytest.raises(NotFoundError):
        await other.client.get(later)
    await other.client.close()
    await other.server.stop()


async def test_without_a_name_it_is_the_time(running: Running) -> None:
    names = {Path((await back_up(running.client))[-1].path).name for _ in range(2)}
    assert {file.name for file in (running.data_dir / "backups").iterdir()} == names
    assert len(names) == 2
    assert all(name.endswith("Z.db") for name in names)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "x" * 129, "ü", "a\n"], ids=ascii)
async def test_names_that_could_lead_elsewhere_are_refused(running: Running, name: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await back_up(running.client, name)
    assert (caught.value.field, caught.value.reason) == ("name", "INVALID_NAME")
    assert not (running.data_dir / "backups").exists()


async def test_a_name_that_is_taken_is_refused(running: Running) -> None:
    await back_up(running.client, "a")
    with pytest.raises(FailedPreconditionError) as caught:
        await back_up(running.client, "a")
    assert caught.value.reason == "BACKUP_EXISTS"


async def test_only_operators_back_up(running: Running) -> None:
    key = await running.client.create_key(label="agent")
    async with AsyncClient(running.server.address, api_key=key.secret) as agent:
        with pytest.raises(PermissionDeniedError):
            await back_up(agent)


async def is_at_work(client: AsyncClient, name: str) -> bool:
    """Whether another backup is still being made, instead of this one."""
    try:
        await back_up(client, name)
    except FailedPreconditionError as error:
        if error.reason != "BACKUP_AT_WORK":
            raise
        return True
    return False


async def test_a_caller_who_leaves_leaves_no_file_and_is_not_in_the_way(running: Running) -> None:
    for number in range(40):
        await running.client.write([f"{number} {i} " + "word " * 600 for i in range(10)])
    moments = running.client.backup("a")
    await anext(moments)
    await moments.aclose()  # type: ignore[attr-defined]
    while await is_at_work(running.client, "b"):  # until the server has heard of it; each is a round trip
        pass
    assert [file.name for file in (running.data_dir / "backups").iterdir()] == ["b"]
