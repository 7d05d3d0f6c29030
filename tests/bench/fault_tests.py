"""The tests that inject faults, as a part of `make faults`: each kind of fault that a test records is a row of its own
(tests/fault_record.py); all tests of a part are one more, whose failures are what is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.bench.fault_table import Result, Row
from tests.bench.options import ROOT
from tests.fault_record import FAULT

PARTS: dict[str, tuple[str, ...]] = {
    "disk": ("e2e/test_disk_faults.py", "unit/store/test_trouble.py"),
    "process": ("e2e/test_process_faults.py", "e2e/test_durability.py"),
    "backup": (
        *("unit/store/test_backup.py", "unit/service/test_backup.py", "unit/cli/test_backup_restore.py"),
        *("unit/service/test_transfer.py", "e2e/test_transfer.py", "unit/cli/test_transfer.py"),
    ),
    "isolation": ("property/test_isolation.py", "e2e/test_isolation.py"),
    "keys": (
        *("unit/service/test_keys.py", "unit/service/test_tls.py", "unit/service/test_failures.py"),
        "e2e/test_secrets.py",
    ),
    "erasure": (
        *("e2e/test_erase.py", "unit/service/test_erase.py", "unit/store/test_wipe.py"),
        "contract/test_store_erasure.py",
    ),
    "overload": ("unit/service/test_overload.py", "unit/service/test_admission.py", "unit/service/test_fair.py"),
    "input": ("e2e/test_bad_input.py", "e2e/test_injection.py"),
    "migrations": ("unit/store/test_databases.py", "unit/store/test_schema.py"),
}
"""The test files of each part, below tests/."""


def run_tests(
    part: str, paths: Sequence[str | Path], folder: Path, tell: Callable[[str], None], result: Result
) -> None:
    """Run these tests in a process of their own.

    Args:
        folder: Where the report may be left.
        tell: Called with how far it is.
    """
    report = folder / f"{part}.xml"
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-v", "--color=no"]
    # In this family a test may have properties.
    command += ["-o", "junit_family=xunit1", f"--junitxml={report}", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        [*command, *map(str, paths)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            last = line.strip() or last
            if line.rstrip().endswith("%]"):
                tell(re.sub(r".*/|(?<=\S) (PASSED|FAILED|SKIPPED|ERROR).*(?= \[)", "", line).strip())
    tests = Row(f"tests of {part}")
    result.rows.append(tests)
    if not report.is_file():
        tests.wrong.append(f"{part}: pytest ended with {process.returncode}: {last}")
        return
    read_report(report, tests, result)
    if process.returncode != 0 and not tests.wrong:
        tests.wrong.append(f"{part}: pytest ended with {process.returncode}: {last}")


def read_report(report: Path, tests: Row, result: Result) -> None:
    """What a report in JUnit's form says: the tests into their row, and recorded faults into theirs."""
    rows: dict[str, Row] = {}
    count = 0
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        skipped = case.find("skipped")
        if skipped is not None:
            tests.notes.append(f"skipped: {name}: {skipped.get('message')}")
        else:
            count += 1
        tests.wrong += [
            f"{name}: {(problem.get('message') or '').partition(chr(10))[0]}"
            for kind in ("failure", "error")
            for problem in case.iter(kind)
        ]
        for told in case.iter("property"):
            if told.get("name") == FAULT:
                add_row(rows, json.loads(told.get("value") or "{}"))
    tests.fault = f"{count} {tests.fault}"  # no count of faults: not every test injects one, and some several
    result.rows += rows.values()


def add_row(rows: dict[str, Row], told: dict[str, object]) -> None:
    """Add what a test recorded to the row of its kind of fault."""
    one = Row(**told)  # type: ignore[arg-type]  # as tests/e2e/conftest.py wrote it
    row = rows.setdefault(one.fault, Row(one.fault))
    row.injected += one.injected
    row.acknowledged += one.acknowledged
    row.lost += one.lost
    row.corrupted += one.corrupted
