"""What of a run of faults is shown: a part that fails is a finding, the next ones run, and a log sees how far it is."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.bench import fault_tests, faults
from tests.bench.fault_table import Result, Row, to_figures, to_targets
from tests.bench.telling import Telling

TESTS = """
import json

def record(record_property, lost):
    row = {"fault": "full disk", "injected": 1, "acknowledged": 7, "lost": lost}
    record_property("fault", json.dumps(row))

def test_good(record_property):
    record(record_property, [])

def test_bad(record_property):
    record(record_property, ["m was acknowledged and is not there"])
    assert False, "as intended"

def test_left_out():
    import pytest
    pytest.skip("no file system may be mounted here")
"""


def test_faults_that_tests_record_are_rows_and_failures_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "test_some.py"
    path.write_text(TESTS)
    result, told = Result(), []
    fault_tests.run_tests("disk", [path], tmp_path, told.append, result)
    tests, disk = result.rows
    assert (tests.fault, tests.injected) == ("2 tests of disk", 0)
    (wrong,) = tests.wrong
    assert wrong.endswith("::test_bad: AssertionError: as intended")
    (note,) = tests.notes
    assert note.endswith("::test_left_out: no file system may be mounted here")
    assert disk == Row("full disk", injected=2, acknowledged=14, lost=["m was acknowledged and is not there"])
    assert told[-1].endswith("::test_left_out [100%]")
    figures = to_figures({"disk": result})
    assert (figures["all"]["lost"], figures["all"]["wrong"], len(figures["findings"])) == (1, 1, 2)
    assert [name for name, target in to_targets(figures).items() if not target["ok"]] == ["lost", "wrong"]


def test_tests_that_cannot_be_collected_are_wrong(tmp_path: Path) -> None:
    result = Result()
    fault_tests.run_tests("disk", [tmp_path / "test_none.py"], tmp_path, lambda _: None, result)
    assert [len(row.wrong) for row in result.rows] == [1]


def test_the_tests_of_each_part_are_there() -> None:
    for paths in fault_tests.PARTS.values():
        assert [path for path in paths if not (faults.ROOT / "tests" / path).is_file()] == []


def test_a_part_that_breaks_off_is_a_finding_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(setting: faults.Setting, result: Result) -> None:
        result.rows.append(Row("first", injected=3, acknowledged=5))
        raise RuntimeError("the server did not start")

    def works(setting: faults.Setting, result: Result) -> None:
        result.rows.append(Row("second", injected=2))

    monkeypatch.setattr(faults, "RESULT_FILE", tmp_path / "faults.json")
    monkeypatch.setitem(faults.PARTS, "kills", (breaks,))
    monkeypatch.setitem(faults.PARTS, "drains", (works,))
    assert faults.main(["--quick", "--parts", "kills,drains"]) == 1
    written = json.loads((tmp_path / "faults.json").read_text())["figures"]
    assert written["faults"]["first"]["acknowledged"] == 5, "what there was is kept"
    assert written["faults"]["second"]["injected"] == 2
    assert written["findings"] == ["kills: RuntimeError: the server did not start"]
    shown = capsys.readouterr()
    assert "kills: RuntimeError: the server did not start" in shown.out
    assert "drains: begins" in shown.err
    assert faults.main(["--quick", "--parts", "drains"]) == 0


def test_a_part_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        faults.main(["--parts", "kills,quakes"])
    assert "quakes" in capsys.readouterr().err


def test_a_log_gets_a_line_now_and_then() -> None:
    log = io.StringIO()
    telling = Telling(log, every_seconds=3600)
    telling.begin("kills")
    for number in range(100):
        telling.step(f"{number} of 100")
    telling.end("done")
    assert [line.split("  ")[-1] for line in log.getvalue().splitlines()] == ["kills: begins", "kills: done"]
    often = Telling(log := io.StringIO(), every_seconds=0)
    often.step("1 of 2")
    assert log.getvalue().endswith("1 of 2\n")
