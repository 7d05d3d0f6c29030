"""Injects faults of every kind and counts what was lost and corrupted: `make faults`, `make faults-long`.

    python -m tests.bench.faults                           the full figures, about 80 minutes
    python -m tests.bench.faults --quick                   the short form of all of it
    python -m tests.bench.faults --parts kills,disk        some parts
    python -m tests.bench.faults --parts kills --kills 100 --seed 1

part        what it does                                                                    full        short
kills       SIGKILL at random moments and at fault points under load; the shipped server    300 + 30    10
drains      SIGTERM under the same load; SIGSTOP and SIGCONT                                30 + 30     3 + 3
disk, process, backup, isolation, keys, erasure, migrations
            the tests that inject faults there (tests/bench/fault_tests.py)                 all         all
input       the tests of bad input; random requests and bytes (tests/bench/fuzz_server.py)  20 minutes  10 seconds
overload    the tests of overload; 3 times the capacity (tests/bench/soak.py)               10 minutes  4 seconds

A part that fails doesn't keep the next ones from running. Bars: nothing that was acknowledged is lost, nothing is corrupted,
nothing else is wrong. Writes target/bench/faults.json. Ends with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from tests.bench import fault_kills, fault_tests, fuzz_server, report, soak
from tests.bench.fault_kills import End
from tests.bench.fault_table import Result, Row, print_table, to_figures, to_targets
from tests.bench.options import ROOT
from tests.bench.telling import Telling

RESULT_FILE = ROOT / "target" / "bench" / "faults.json"


@dataclass(frozen=True)
class Sizes:
    """How much of each part."""

    kills: int = 300
    shipped: int = 30
    drains: int = 30
    stops: int = 30
    fuzz_seconds: float = 1200.0
    soak: soak.Sizes = field(default_factory=soak.Sizes)


QUICK = Sizes(kills=10, shipped=0, drains=3, stops=3, fuzz_seconds=10.0, soak=soak.QUICK)


@dataclass(frozen=True)
class Setting:
    """What a part is given."""

    sizes: Sizes
    seed: int
    folder: Path
    telling: Telling


def run_kills(setting: Setting, result: Result) -> None:
    """SIGKILL."""
    _live(setting, result, [(setting.sizes.kills, End.KILLED), (setting.sizes.shipped, End.SHIPPED_KILLED)])


def run_drains(setting: Setting, result: Result) -> None:
    """SIGTERM; SIGSTOP and SIGCONT."""
    _live(setting, result, [(setting.sizes.drains, End.DRAINED), (setting.sizes.stops, End.STOPPED)])


def _live(setting: Setting, result: Result, lives: list[tuple[int, End]]) -> None:
    count, total = 0, sum(number for number, _ in lives)

    def tell() -> None:
        nonlocal count
        count += 1
        setting.telling.step(f"{count} of {total}")

    fault_kills.run_lives(setting.folder, lives, setting.seed, tell, result)


def run_tests(part: str) -> Callable[[Setting, Result], None]:
    """The tests of a part."""

    def run(setting: Setting, result: Result) -> None:
        paths = [ROOT / "tests" / path for path in fault_tests.PARTS[part]]
        fault_tests.run_tests(part, paths, setting.folder, setting.telling.step, result)

    return run


def run_fuzz(setting: Setting, result: Result) -> None:
    """Bad input."""
    fuzz_server.run(setting.sizes.fuzz_seconds, setting.seed, setting.folder, setting.telling.step, result)


def run_soak(setting: Setting, result: Result) -> None:
    """More to do than it can. Seconds are not judged by its bars."""
    soak.run(setting.sizes.soak, setting.folder, setting.telling.step, result)


PARTS: dict[str, tuple[Callable[[Setting, Result], None], ...]] = {
    "kills": (run_kills,),
    "drains": (run_drains,),
    **{part: (run_tests(part),) for part in fault_tests.PARTS},
}
PARTS["input"] += (run_fuzz,)
PARTS["overload"] += (run_soak,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    options = _parse(arguments)
    telling = Telling()
    results: dict[str, Result] = {}
    try:
        for part in options.parts:
            results[part] = Result()
            run_part(part, PARTS[part], options.sizes, options.seed, telling, results[part])
    except KeyboardInterrupt:
        print("interrupted: this is what there is so far", file=sys.stderr)
    figures = to_figures(results)
    machine, commit = report.machine(), report.commit(ROOT)
    sizes = {"kills": options.sizes.kills, "shipped": options.sizes.shipped, "drains": options.sizes.drains}
    result = {
        "machine": machine,
        "commit": commit,
        "settings": {**sizes, "parts": options.parts, "seed": options.seed, "quick": options.quick},
        "figures": figures,
        "targets": to_targets(figures),
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print_table(
        Console(width=None if sys.stdout.isatty() else 160),
        figures,
        [f"{machine['cpu']}, commit {commit}; {RESULT_FILE}"],
    )
    return 0 if all(target["ok"] for target in result["targets"].values()) else 1


def run_part(
    part: str,
    works: Sequence[Callable[[Setting, Result], None]],
    sizes: Sizes,
    seed: int,
    telling: Telling,
    result: Result,
) -> None:
    """Run one part on a folder of its own. Whatever it raises is a finding: the parts after it say more than its traceback."""
    telling.begin(part)
    began = time.monotonic()
    for work in works:
        with tempfile.TemporaryDirectory(prefix="lightmem-faults-") as folder:
            try:
                work(Setting(sizes, seed, Path(folder), telling), result)
            except Exception as error:  # noqa: BLE001
                traceback.print_exc()
                result.rows.append(Row(f"{part}, broken off", wrong=[f"{part}: {type(error).__name__}: {error}"]))
    seconds = time.monotonic() - began
    result.figures["seconds"] = round(seconds, 1)
    counts = [row.counts() for row in result.rows]
    telling.end(
        f"{seconds:.0f} s; " + ", ".join(f"{sum(row[name] for row in counts):,} {name}" for name in counts[0])
        if counts
        else "nothing"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="of %(default)s; default: all")
    parser.add_argument("--quick", action="store_true", help="the short form, minutes")
    parser.add_argument("--seed", type=int, default=0, help="of moments, load and bytes; default: 0")
    parser.add_argument("--kills", type=int, help="of the server with fault points; default: 300")
    parser.add_argument("--shipped", type=int, help="kills of `lightmem serve`; default: 30")
    parser.add_argument("--fuzz-minutes", type=float, help="default: 20")
    parser.add_argument("--soak-minutes", type=float, help="default: 10")
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",")
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options.sizes = to_sizes(options)
    return options


def to_sizes(options: argparse.Namespace) -> Sizes:
    """The sizes that were asked for."""
    sizes = QUICK if options.quick else Sizes()
    given: dict[str, object] = {}
    if options.kills is not None:
        given["kills"] = options.kills
    if options.shipped is not None:
        given["shipped"] = options.shipped
    if options.fuzz_minutes is not None:
        given["fuzz_seconds"] = options.fuzz_minutes * 60
    if options.soak_minutes is not None:
        given["soak"] = replace(sizes.soak, soak_seconds=options.soak_minutes * 60)
    return replace(sizes, **given) if given else sizes  # type: ignore[arg-type]  # names and types of Sizes


if __name__ == "__main__":
    sys.exit(main())
