from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from click.testing import Result
from lightmem_client import Client

from clients.python.tests.peer import KEY, Peer
from lightmem_server.cli import doctor
from lightmem_server.cli.doctor import Level
from lightmem_server.cli.options import ExitCode
from lightmem_server.config import Settings
from lightmem_server.store.sqlite import DATABASE_NAME
from tests.unit.store.test_databases import FIXTURES, make_database

Run = Callable[..., Result]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", models_dir=tmp_path / "models", listen="127.0.0.1:0")


@pytest.fixture
def stranger() -> Iterator[str]:
    """A program that listens and is no LightMem server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_missing_models_fail_and_say_what_to_run(settings: Settings) -> None:
    findings = list(doctor.check_models(settings))
    assert [finding.level for finding in findings] == [Level.FAIL] * 3
    assert findings[0].advice == f"run `lightmem models pull {settings.embedder}`"


def test_each_model_has_its_role(settings: Settings) -> None:
    same = settings.model_copy(update={"selector": settings.gate_selector})
    assert [finding.check for finding in doctor.check_models(settings)] == ["embedder", "selector", "gate"]
    assert [finding.check for finding in doctor.check_models(same)] == ["embedder", "selector"]


def test_unknown_model_fails(settings: Settings) -> None:
    findings = list(doctor.check_models(settings.model_copy(update={"embedder": "nonsense"})))
    assert findings[0].level is Level.FAIL


def test_data_dir_to_be_made_is_fine(settings: Settings) -> None:
    (finding,) = doctor.check_data_dir(settings)
    assert finding.level is Level.OK
    assert "will be made" in finding.message
    assert not settings.data_dir.exists()


def test_data_dir_that_is_a_file_fails(settings: Settings) -> None:
    settings.data_dir.touch()
    assert [finding.level for finding in doctor.check_data_dir(settings)] == [Level.FAIL]


def test_key_that_others_can_read_fails(settings: Settings) -> None:
    settings.data_dir.mkdir(mode=0o700)
    settings.admin_key_file.touch(mode=0o644)
    levels = {finding.check: finding for finding in doctor.check_data_dir(settings)}
    assert levels["permissions"].level is Level.FAIL
    assert levels["permissions"].advice == f"run `chmod 600 {settings.admin_key_file}`"


def test_no_database_yet_is_no_finding(settings: Settings) -> None:
    assert list(doctor.check_database(settings)) == []


def test_newer_database_fails(settings: Settings) -> None:
    settings.data_dir.mkdir()
    make_database(FIXTURES[-1], settings.data_dir / DATABASE_NAME)
    assert [finding.level for finding in doctor.check_database(settings)] == [Level.OK]
    with closing(apsw.Connection(str(settings.data_dir / DATABASE_NAME))) as connection:
        connection.pragma("user_version", 1000)
    (finding,) = doctor.check_database(settings)
    assert (finding.level, finding.advice) == (Level.FAIL, "install the newer LightMem that wrote it")
    assert [file.name for file in settings.data_dir.iterdir()] == [DATABASE_NAME], "it changes nothing"


def test_free_port_is_fine(settings: Settings) -> None:
    assert [finding.level for finding in doctor.check_port(settings)] == [Level.OK]


def test_port_with_a_ready_server_is_fine(settings: Settings, peer: Peer) -> None:
    (finding,) = doctor.check_port(settings.model_copy(update={"listen": peer.target}))
    assert (finding.level, finding.message) == (Level.OK, f"a server answers at {peer.target} and is ready")


def test_jobs_that_a_server_has_set_aside_are_a_warning(peer: Peer) -> None:
    with Client(peer.target, api_key=KEY) as client:
        (finding,) = doctor.check_jobs(client)
        assert finding.level is Level.OK
        peer.dead_jobs["ann"] = "no model"
        (finding,) = doctor.check_jobs(client)
        assert finding.level is Level.WARN
        assert "consolidate of ann: no model" in finding.message
    with Client(peer.target, api_key="lm_wrong") as client:
        assert list(doctor.check_jobs(client)) == []


def test_port_with_another_program_fails(settings: Settings, stranger: str) -> None:
    (finding,) = doctor.check_port(settings.model_copy(update={"listen": stranger}))
    assert finding.level is Level.FAIL


def test_host_that_does_not_exist_fails(settings: Settings) -> None:
    (finding,) = doctor.check_port(settings.model_copy(update={"listen": "no.such.host.invalid:1"}))
    assert finding.level is Level.FAIL


@pytest.mark.parametrize(
    "check", [doctor.check_python, doctor.check_sqlite, doctor.check_cpu], ids=lambda c: c.__name__
)
def test_this_machine_passes(check: doctor.Check, settings: Settings) -> None:
    assert Level.FAIL not in [finding.level for finding in check(settings)]


def test_memory_is_the_lesser_of_the_machines_and_the_groups(tmp_path: Path) -> None:
    assert doctor.read_available_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert doctor.read_available_memory(tmp_path) == 2048 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1048576\n")
    (group / "memory.current").write_text("48576\n")
    assert doctor.read_available_memory(tmp_path) == 1_000_000
    (group / "memory.max").write_text("max\n")
    assert doctor.read_available_memory(tmp_path) == 2048 * 1024


def test_too_little_memory_is_a_warning(settings: Settings) -> None:
    (finding,) = doctor.check_memory(settings.model_copy(update={"resident_bytes": 1 << 60}))
    assert finding.level is Level.WARN


def test_report_fails_when_a_check_does(run: Run, tmp_path: Path) -> None:
    arguments = ("--models-dir", str(tmp_path), "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    result = run("doctor", *arguments)
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr == "Error: not in order: embedder, selector, gate\n"
    assert "-> run `lightmem models pull" in result.stdout
    findings = json.loads(run("doctor", *arguments, "--json").stdout)
    assert {"check", "level", "message", "advice"} == set(findings[0])
    assert {finding["level"] for finding in findings} <= {"ok", "warn", "fail"}


def test_bad_setting_is_a_finding(run: Run) -> None:
    result = run("doctor", "--listen", "nonsense")
    assert result.exit_code == ExitCode.FAILED
    assert "must be HOST:PORT" in result.stdout
