from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from click.testing import Result

from clients.python.tests.peer import Failure, Peer
from lightmem_server.cli.options import ExitCode
from lightmem_server.store.sqlite import DATABASE_NAME
from tests.unit.store.test_backup import back_up, open_store

Run = Callable[..., Result]


def test_backup_tells_where_it_is(run: Run, peer: Peer) -> None:
    shown = run("backup", "monday.db")
    assert (shown.exit_code, shown.stdout) == (0, "/data/backups/monday.db: 8.0 KiB, verified\n")
    assert peer.backups == ["monday.db"]


def test_backup_as_json_is_one_moment_a_line(run: Run) -> None:
    moments = [json.loads(line) for line in run("backup", "--json").stdout.splitlines()]
    assert [moment["stage"] for moment in moments] == ["copy", "verify", "done"]
    assert moments[-1] == {
        "stage": "done", "done_pages": 2, "total_pages": 2, "path": "/data/backups/now", "size_bytes": 8192,
    }  # fmt: skip


def test_a_failed_backup_ends_the_command(run: Run, peer: Peer) -> None:
    peer.fail("Backup", Failure(grpc.StatusCode.UNAVAILABLE, "STORE_FAILED", is_late=True))
    result = run("backup")
    assert (result.exit_code, len(result.stderr.splitlines())) == (ExitCode.UNAVAILABLE, 1)
    run("backup", "a")
    assert run("backup", "a").exit_code == ExitCode.FAILED


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    async def make() -> Path:
        store = await open_store(tmp_path / "data")
        path = Path((await back_up(store))[-1].path)
        await store.close()
        return path

    return asyncio.run(make())


def test_restore_makes_a_folder_to_start_on(run: Run, backup: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    result = run("restore", str(backup), "--data-dir", str(folder))
    assert (result.exit_code, (folder / DATABASE_NAME).is_file()) == (0, True)
    assert "verified" in result.stdout
    assert f"{folder / 'admin.key'} is missing" in result.stderr
    assert run("restore", str(backup), "--data-dir", str(folder)).exit_code == ExitCode.FAILED
    shown = run("restore", str(backup), "--data-dir", str(tmp_path / "other"), "--json")
    assert json.loads(shown.stdout)["path"] == str(tmp_path / "other" / DATABASE_NAME)


def test_restore_says_what_is_wrong_in_one_line(run: Run, backup: Path, tmp_path: Path) -> None:
    backup.write_bytes(b"not a database" * 1000)
    result = run("restore", str(backup), "--data-dir", str(tmp_path / "new"))
    assert (result.exit_code, len(result.stderr.splitlines())) == (ExitCode.FAILED, 1)
    assert run("restore", str(tmp_path / "missing"), "--data-dir", str(tmp_path / "new")).exit_code == ExitCode.USAGE
