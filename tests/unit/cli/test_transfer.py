from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from click.testing import Result

from clients.python.tests.peer import Failure, Peer
from lightmem_server.cli.options import ExitCode

Run = Callable[..., Result]

LINES = ['{"type":"header"}', '{"text":"Übung\u2028 \\n"}', '{"text":"Porto"}']
CONTENT = "".join(f"{line}\n" for line in LINES)


@pytest.fixture(autouse=True)
def _exported(peer: Peer) -> None:
    peer.exports["ann"] = list(LINES)


def test_export_goes_to_standard_output(run: Run) -> None:
    shown = run("export", "ann")
    assert shown.exit_code == ExitCode.OK
    assert shown.stdout_bytes.decode() == CONTENT


def test_export_to_a_file_that_its_owner_alone_can_read(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ann.jsonl"
    path.write_text("before")
    assert run("export", "ann", "--output", str(path)).stdout == f"3 lines in {path}\n"
    assert path.read_text("utf-8") == CONTENT
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(run("export", "ann", "-o", str(path), "--json").stdout) == {"lines": 3, "path": str(path)}
    assert run("export", "ann", "--json").exit_code == ExitCode.USAGE


def test_a_broken_export_leaves_the_file_before_it(run: Run, peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "ann.jsonl"
    path.write_text("before")
    peer.fail("ExportUser", Failure(grpc.StatusCode.ABORTED, "USER_ERASED", is_late=True))
    assert run("export", "ann", "--output", str(path)).exit_code == ExitCode.FAILED
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["ann.jsonl"]
    result = run("export", "ann", "--output", str(tmp_path / "no" / "ann.jsonl"))
    assert result.exit_code == ExitCode.FAILED
    assert "No such file" in result.stderr


def test_import_takes_a_file_or_standard_input_in(run: Run, peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "ann.jsonl"
    path.write_text(CONTENT, "utf-8")
    shown = run("import", "bob", str(path))
    assert shown.stdout == "3 memories imported, 0 were there; 1 got vectors of this server's embedder\n"
    assert peer.exports["bob"] == LINES
    again = json.loads(run("import", "bob", "-", "--json", input=CONTENT).stdout)
    assert again == {"imported_count": 0, "skipped_count": 3, "reembedded_count": 0}


def test_import_says_what_is_wrong(run: Run, peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "ann.jsonl"
    path.write_bytes(b'{"type":"header"}\n\xff\xfe\n')
    peer.fail("ImportUser", Failure(grpc.StatusCode.INVALID_ARGUMENT, "INCOMPLETE", field="json_lines"))
    result = run("import", "bob", str(path))
    assert result.exit_code == ExitCode.USAGE
    assert len(result.stderr.splitlines()) == 1
    assert run("import", "bob", str(tmp_path / "none")).exit_code == ExitCode.USAGE
