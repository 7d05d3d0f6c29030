"""The latency bench from its first line to its last, small; not how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import latency

pytestmark = pytest.mark.models


def test_quick_run_measures_every_part_and_judges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "target" / "latency.json"
    monkeypatch.setattr(latency, "RESULT_FILE", path)
    assert latency.main(["--quick", "--made"]) == 0
    result = json.loads(path.read_text())
    figures = result["figures"]
    assert set(figures) - {"off"} == {"clients", "deadline", "scale", "cold", "beside"}
    assert ("off" in figures) != ("SKIPPED: off" in capsys.readouterr().err)
    assert set(figures["clients"]["steps"]) == {
        "1 client",
        "2 clients",
        "2 busy",
        "2 busy, uncut, FAST",
        "2 busy, uncut, FULL",
    }
    assert figures["clients"]["steps"]["2 busy, uncut, FAST"]["cut_share"] == 0
    assert figures["clients"]["full_throughput_of_selector"] > 0
    assert set(figures["deadline"]) == {"20 ms", "200 ms"}
    assert set(figures["scale"]["steps"]) == {"40", "120", "40, off", "120, off"}
    assert set(figures["cold"]["steps"]) == {"40", "120"}
    assert {"lite: alone", "lite: beside"} < set(figures["beside"]["steps"])
    assert figures["beside"]["lite_p95_ratio"] > 0
    for made in figures.values():
        for step in made.get("steps", made).values():
            assert set(step["statuses"]) == {"OK"}
            assert {"embed", "coarse", "select"} <= set(step["stages"])
    assert result["targets"] == {}


def test_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        latency.main(["--parts", "off,nonsense"])
    assert "there is no part nonsense" in capsys.readouterr().err
