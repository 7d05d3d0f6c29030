"""What came of injected faults, by kind: a row for each, one table and one JSON for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

MAX_FINDINGS = 50
"""Lines that are kept; the counts are of all."""

COLUMNS = ("injected", "acknowledged", "lost", "corrupted", "wrong")


@dataclass
class Row:
    """A kind of fault. What is lost, corrupted or otherwise wrong is told line by line.

    Attributes:
        injected: How many faults; of bad input how many requests, of an overload how many calls.
        acknowledged: Operations acknowledged beside them or before, which must hold.
        in_doubt: Operations under way at a fault, each of which must be there whole or not at all.
        lost: Acknowledged, and not there.
        corrupted: Anything else than whole or absent; a store that isn't sound.
        wrong: Whatever else isn't as promised: a status, health, a bar, a test that failed.
        notes: What was left out, and why.
    """

    fault: str
    injected: int = 0
    acknowledged: int = 0
    in_doubt: int = 0
    lost: list[str] = field(default_factory=list)
    corrupted: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def compare(self, expected: Mapping[str, str], actual: Mapping[str, str], *, whose: str = "") -> None:
        """Note what of the acknowledged texts isn't there, or is another; by id."""
        for memory_id, text in expected.items():
            if memory_id not in actual:
                self.lost.append(f"{self.fault}: {whose}{memory_id} was acknowledged and is not there")
            elif actual[memory_id] != text:
                self.corrupted.append(f"{self.fault}: {whose}{memory_id} has another text")

    def counts(self) -> dict[str, int]:
        """As numbers."""
        values = {name: getattr(self, name) for name in (*COLUMNS[:2], "in_doubt", *COLUMNS[2:])}
        return {name: len(value) if isinstance(value, list) else value for name, value in values.items()}


@dataclass
class Result:
    """What came of one part: its rows, and figures beside them. Filled while it runs, so that what ends it loses nothing."""

    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, count: int) -> None:
        """Raise a figure."""
        self.figures[name] = self.figures.get(name, 0) + count


def to_figures(parts: Mapping[str, Result]) -> dict[str, Any]:
    """Counts by kind of fault, in all, and what was found."""
    rows = [row for part in parts.values() for row in part.rows]
    by_fault = {row.fault: row.counts() for row in rows}
    return {
        "faults": by_fault,
        "all": {name: sum(counts[name] for counts in by_fault.values()) for name in (*COLUMNS, "in_doubt")},
        "parts": {name: part.figures for name, part in parts.items()},
        "findings": [line for row in rows for line in (*row.lost, *row.corrupted, *row.wrong)][:MAX_FINDINGS],
        "notes": [note for row in rows for note in row.notes],
    }


def to_targets(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The bars: nothing lost, corrupted or wrong."""
    return {
        name: {"value": figures["all"][name], "bar": 0, "ok": figures["all"][name] == 0}
        for name in ("lost", "corrupted", "wrong")
    }


def print_table(console: Console, figures: Mapping[str, Any], below: Sequence[str]) -> None:
    """The result for people, and lines `below` it."""
    table = Table("fault", *COLUMNS, box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for fault, counts in (*figures["faults"].items(), ("all", figures["all"])):
        table.add_row(fault, *(f"{counts[name]:,}" for name in COLUMNS))
    console.print(table)
    for line in (*below, *figures["notes"], *figures["findings"]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
