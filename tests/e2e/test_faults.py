"""A server that is killed ten times under load, at every fault point and at random, keeps what it acknowledged; one that gets
a SIGTERM ends by itself, one that is stopped for a while goes on, and both keep it too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import faults
from tests.fault_server import Point


@pytest.mark.timeout(300)
def test_kills_and_drains_lose_nothing_and_corrupt_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "target" / "faults.json"
    monkeypatch.setattr(faults, "RESULT_FILE", path)
    assert faults.main(["--quick", "--parts", "kills,drains"]) == 0
    figures = json.loads(path.read_text())["figures"]
    assert figures["findings"] == []
    drains = figures["faults"].pop("SIGTERM under load")
    stops = figures["faults"].pop("SIGSTOP and SIGCONT under load, then killed")
    assert (drains["injected"], stops["injected"]) == (faults.QUICK.drains, faults.QUICK.stops)
    assert drains["acknowledged"] > 0
    assert stops["acknowledged"] > 0
    assert sum(row["injected"] for row in figures["faults"].values()) == faults.QUICK.kills
    assert {*figures["faults"]} >= {f"killed {str(point).replace('_', ' ')}" for point in Point}
    assert figures["all"]["acknowledged"] > drains["acknowledged"] + stops["acknowledged"]
    assert figures["all"]["in_doubt"] > 0
    assert figures["parts"]["kills"]["checked_backups"] > 0
