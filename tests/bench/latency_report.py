"""Figures of a latency run against their bars; as numbers and as tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.report import percentile

LATE_MS = 15.0
"""How much later than asked the slowest of a hundred answers may be."""

ALLOWED_STATUSES = frozenset({"OK", "RESOURCE_EXHAUSTED"})

BARS = {
    "one_client_p50_ms": 83.0,
    "one_client_p95_ms": 167.0,
    "throughput_of_selector": 0.9,
    "full_throughput_of_selector": 0.9,
    "p50_100k_over_1k": 1.3,
    "off_over_plain_line": 1.0,
    "off_over_plain_line_of_one": 1.0,
    "traced_off_over_plain_line": 1.0,
    "p95_beside_over_alone": 1.5,
}
"""Upper bounds, but for the throughput. The plain line is measured twice: with the server's users, and, which no server is
made for, with the one that is asked alone."""


def target(value: float, bar: float, *, is_least: bool = False) -> dict[str, Any]:
    """A figure beside its bar. A bar is reached when it is met exactly."""
    return {"value": round(value, 4), "bar": bar, "ok": value >= bar if is_least else value <= bar}


def targets(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each bar that the measured parts have a figure for, and whether it is reached."""
    made: dict[str, dict[str, Any]] = {}
    clients = figures.get("clients")
    if clients:
        first = clients["steps"]["1 client"]["end_to_end"]
        made["one_client_p50_ms"] = target(first["p50_ms"], BARS["one_client_p50_ms"])
        made["one_client_p95_ms"] = target(first["p95_ms"], BARS["one_client_p95_ms"])
        for name in ("throughput_of_selector", "full_throughput_of_selector"):
            made[name] = target(clients[name], BARS[name], is_least=True)
        errors = sum(
            count
            for step in clients["steps"].values()
            for status, count in step["statuses"].items()
            if status not in ALLOWED_STATUSES
        )
        made["errors_but_exhausted"] = target(errors, 0)
    for name, step in figures.get("deadline", {}).items():
        made[f"deadline_{name.replace(' ', '_')}_p99_ms"] = target(
            step["end_to_end"]["p99_ms"], step["deadline_ms"] + LATE_MS
        )
    if "scale" in figures and figures["scale"]["ratio"] is not None:
        made["p50_100k_over_1k"] = target(figures["scale"]["ratio"], BARS["p50_100k_over_1k"])
    if "off" in figures:
        made["off_over_plain_line"] = target(figures["off"]["ratio"], BARS["off_over_plain_line"])
        made["off_over_plain_line_of_one"] = target(figures["off"]["of_one_ratio"], BARS["off_over_plain_line_of_one"])
        made["traced_off_over_plain_line"] = target(figures["off"]["traced_ratio"], BARS["traced_off_over_plain_line"])
    for name, value in figures.get("beside", {}).items():
        if name.endswith("_p95_ratio"):
            writer = name.removesuffix("_p95_ratio")
            made[f"p95_beside_{writer}_over_alone"] = target(value, BARS["p95_beside_over_alone"])
    return made


def paired_ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> dict[str, float]:
    """How our median compares with theirs, per round of alternating measurements: the middle round and the extremes."""
    ratios = [percentile(mine, 0.5) / percentile(other, 0.5) for mine, other in zip(ours, theirs, strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 4),
        "ratio_lowest": round(min(ratios), 4),
        "ratio_highest": round(max(ratios), 4),
    }


def print_tables(console: Console, result: Mapping[str, Any]) -> None:
    """The report for people."""
    for part, rows in steps_of(result["figures"]).items():
        if not rows:
            continue
        columns = (
            "p50",
            "p95",
            "p99",
            "max",
            "server p50",
            "server p99",
            "n",
            "cut",
            "judged",
            "answers/s",
            "statuses",
        )
        table = Table(f"{part} (ms)", *columns, box=None, header_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, step in rows.items():
            end_to_end, server = step["end_to_end"], step["server"]
            others = {status: count for status, count in step["statuses"].items() if status != "OK"}
            table.add_row(
                name,
                *(_number(end_to_end[key]) for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")),
                *(_number(server[key]) for key in ("p50_ms", "p99_ms")),
                str(end_to_end["count"]),
                "" if step["cut_share"] is None else f"{step['cut_share']:.0%}",
                _number(step["judged_per_answer"]),
                _number(step["answers_per_second"]),
                ", ".join(f"{status} {count}" for status, count in others.items()),
            )
        console.print(table)
        console.print(_stages(rows))
    for name, value in _singles(result["figures"]):
        console.print(f"{name}: {value}", highlight=False)
    for name, one in result["targets"].items():
        verdict = "[green]reached[/]" if one["ok"] else "[bold red]MISSED[/]"
        console.print(f"{name}: {one['value']:g}, bar {one['bar']:g}: {verdict}", highlight=False)


def steps_of(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each part the steps that were recorded call by call."""
    return {
        part: {
            name: step for name, step in made.get("steps", made).items() if isinstance(step, dict) and "stages" in step
        }
        for part, made in figures.items()
    }


def _stages(rows: Mapping[str, Any]) -> Table:
    names = list(dict.fromkeys(name for step in rows.values() for name in step["stages"]))
    table = Table("  stages, p50/p95/p99", *names, box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, step in rows.items():
        cells = [step["stages"].get(stage) for stage in names]
        table.add_row(
            f"  {name}",
            *(
                "" if cell is None else "/".join(_short(cell[key]) for key in ("p50_ms", "p95_ms", "p99_ms"))
                for cell in cells
            ),
        )
    return table


def _singles(figures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (f"{part}: {name.replace('_', ' ')}", value)
        for part, made in figures.items()
        for name, value in made.items()
        if not isinstance(value, dict)
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
