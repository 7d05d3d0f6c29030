"""A run's figures against its bars; as a table, and as a plot."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.latency_report import target
from tests.bench.load.scenario import KINDS, Bars

PERCENTILES = ("p50_ms", "p95_ms", "p99_ms", "max_ms")

Targets = dict[str, dict[str, Any]]


def targets(bars: Bars, figures: Mapping[str, Any]) -> Targets:
    """Each bar, and whether it is reached. Missed is also what has no figure, such as the p95 of calls
    of which none was answered."""
    made: Targets = {}
    calls = figures["calls"]
    for kind in KINDS:
        answered = calls[kind]["answered"]
        for name, bar in getattr(bars, kind):
            if bar is not None:
                is_share = name == "ok_share"
                value = calls[kind][name] if is_share else answered[name]
                made[f"{kind} {name}"] = _target(value, bar, is_least=is_share)
    others = {
        status: count
        for kind in KINDS
        for status, count in calls[kind]["statuses"].items()
        if status not in bars.statuses
    }
    made["calls with other statuses"] = target(sum(others.values()), 0)
    made["refusals without RetryInfo"] = target(sum(calls[kind]["refusals_without_retry_info"] for kind in KINDS), 0)
    if bars.rss_mib is not None:
        made["rss_mib"] = _target(figures["server"]["rss_mib_most"], bars.rss_mib)
    return made


def _target(value: float | None, bar: float, *, is_least: bool = False) -> dict[str, Any]:
    if value is None:
        return {"value": None, "bar": bar, "ok": False}
    return target(value, bar, is_least=is_least)


def print_tables(console: Console, result: Mapping[str, Any]) -> None:
    """The report for people."""
    figures = result["figures"]
    calls = Table("call", "sent", "ok", "ok/s", "p50 ms", "p95 ms", "p99 ms", "longest", box=None, header_style="bold")
    statuses = Table("call", "status and reason", "count", box=None, header_style="bold")
    for column in (*calls.columns[1:], statuses.columns[2]):
        column.justify = "right"
    for kind in KINDS:
        made = figures["calls"][kind]
        if not made["statuses"]:
            continue
        calls.add_row(
            kind,
            str(made["sent"]),
            f"{made['ok_share']:.2%}",
            _number(made["answers_per_second"]),
            *(_number(made["answered"][name]) for name in PERCENTILES),
        )
        for name, count in {"OK": made["statuses"].get("OK", 0), **made["reasons"]}.items():
            statuses.add_row(kind, name, str(count))
        if "NOT_SENT" in made["statuses"]:
            statuses.add_row(kind, "NOT_SENT (the generator was full)", str(made["statuses"]["NOT_SENT"]))
    console.print(calls)
    console.print("from the moment at which a call was to be sent to the end of its answer", style="dim")
    late = max(figures["calls"][kind]["generator_late"]["p99_ms"] or 0 for kind in KINDS)
    console.print(f"p99 of how late the generator itself was: {late:.1f} ms, in the figures above", style="dim")
    if figures["cut_share"] is not None:
        console.print(
            f"{figures['cut_share']:.1%} of the answers had a part left unjudged at their deadline", style="dim"
        )
    console.print(statuses)
    server = {name: value for name, value in figures["server"].items() if value is not None}
    console.print(
        "server: " + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in server.items()), highlight=False
    )
    for name, one in result["targets"].items():
        verdict = "[green]reached[/]" if one["ok"] else "[bold red]MISSED[/]"
        console.print(f"{name}: {_number(one['value'])}, bar {one['bar']:g}: {verdict}", highlight=False)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}" if abs(value) < 1 else f"{value:,.1f}"


def plot(result: Mapping[str, Any], path: Path) -> bool:
    """Calls, latencies, and the server over the run's time, as SVG. False where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    figures = result["figures"]
    figure = Figure(figsize=(9, 8), layout="constrained")
    calls, latencies, server = figure.subplots(3, sharex=True)
    for kind in KINDS:
        course = [bin_ for bin_ in figures["course"][kind] if bin_["ok"] + bin_["refused"] + bin_["other"]]
        if not course:
            continue
        at = [bin_["at"] for bin_ in course]
        (line,) = calls.plot(at, [bin_["ok"] for bin_ in course], label=f"{kind}: ok")
        not_ok = [bin_["refused"] + bin_["other"] for bin_ in course]
        if any(not_ok):
            calls.plot(at, not_ok, linestyle=":", color=line.get_color(), label=f"{kind}: refused or failed")
        for name, style in (("p50_ms", "-"), ("p95_ms", "--")):
            values = [bin_[name] if bin_[name] is not None else float("nan") for bin_ in course]
            latencies.plot(at, values, style, color=line.get_color(), label=f"{kind}: {name[:3]}")
    samples = [sample for sample in figures["samples"] if "rss_mib" in sample]
    server.plot([one["at"] for one in samples], [one["rss_mib"] for one in samples], label="resident memory, MiB")
    cores = server.twinx()
    busy = [one for one in samples if "cpu_cores" in one]
    cores.plot([one["at"] for one in busy], [one["cpu_cores"] for one in busy], color="grey", linewidth=0.8)
    calls.set(ylabel="calls per bin", title=result["scenario"]["name"], ylim=(0, None))
    latencies.set(ylabel="ms", ylim=(0, None))
    server.set(ylabel="MiB", xlabel="seconds", ylim=(0, None))
    cores.set(ylabel="busy cores (grey)", ylim=(0, None))
    for axes in (calls, latencies, server):
        if axes.lines:
            axes.legend(loc="upper left", fontsize="small")
    figure.savefig(path)
    return True
