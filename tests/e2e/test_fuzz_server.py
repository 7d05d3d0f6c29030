"""The fuzzing of the server from its first line to its last, for seconds; `make fuzz-server` takes as long as it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import fuzz_server
from tests.wire import METHODS

pytestmark = pytest.mark.models


def test_random_requests_and_bytes_get_documented_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fuzz_server.json"
    monkeypatch.setattr(fuzz_server, "RESULT_FILE", path)
    assert fuzz_server.main(["--seconds", "12"]) == 0, capsys.readouterr().err
    figures = json.loads(path.read_text())["figures"]
    assert set(figures["calls"]) <= set(METHODS)
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED"} <= set(figures["statuses"])
    assert figures["raw_connections"] > 0
