"""A server that is killed ten times under load, at every fault point and at random, keeps what it acknowledged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import faults
from tests.fault_server import Point


@pytest.mark.timeout(300)
def test_ten_kills_lose_nothing_and_corrupt_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "target" / "faults.json"
    monkeypatch.setattr(faults, "RESULT_FILE", path)
    assert faults.main(["--quick"]) == 0
    figures = json.loads(path.read_text())["figures"]
    assert figures["findings"] == []
    assert figures["all"]["kills"] == 10
    assert {*figures["modes"]} >= {str(point) for point in Point}
    assert figures["all"]["acknowledged"] > 0
    assert figures["all"]["in_doubt"] > 0
    assert figures["checked_backups"] > 0
