"""Lets a test that injects faults say how many, and what came of them: `make faults` shows it in its table.

The fixture `inject` is in tests/e2e/conftest.py; a row goes into the test's report as the property FAULT.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.bench.fault_check import check_database
from tests.bench.fault_table import Row

FAULT = "fault"


class Injected:
    """One kind of fault in one test. Its checks note what they find before they raise."""

    def __init__(self, fault: str) -> None:
        self.row = Row(fault, injected=1)

    def check_all(self, acknowledged: Mapping[str, str], stored: Mapping[str, str]) -> None:
        """Everything that was acknowledged is there, and nothing else; texts by id."""
        self.row.acknowledged = max(self.row.acknowledged, len(acknowledged))
        self.row.compare(acknowledged, stored)
        unknown = stored.keys() - acknowledged.keys()
        self.row.corrupted += [f"{self.row.fault}: {memory_id} was written by nobody" for memory_id in sorted(unknown)]
        assert stored == acknowledged

    def check_sound(self, data_dir: Path) -> None:
        """The closed store is sound, and nothing in it is half."""
        found = check_database(data_dir)
        self.row.corrupted += [f"{self.row.fault}: {line}" for line in found]
        assert found == []
