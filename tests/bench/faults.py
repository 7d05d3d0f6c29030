"""Kills a server at random moments under a mixed load, and looks for what was acknowledged: `make faults`, `make faults-long`.

    start ─▶ check everything that is known ─▶ load ─▶ SIGKILL ─▶ again

A kill comes from outside at a random moment, or from inside at a fault point (tests/fault_server.py). Bars: nothing that
was acknowledged is lost, nothing is corrupted. `--shipped` kills `lightmem serve` with the real models as well.

SIGKILL ends a process, not the machine: what the operating system holds is not lost. That a commit reaches the disk before
its ack rests on SQLite's `synchronous=FULL`, which a test reads back (tests/unit/store/test_connection.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import report
from tests.bench.fault_check import check_backup, check_database, find_partials, find_text, read_version
from tests.bench.fault_ledger import Findings, Ledger, Write
from tests.bench.fault_load import Caller, to_stored
from tests.bench.options import ROOT, open_bars
from tests.fault_server import Point
from tests.server_process import ENDED_SECONDS, ServerProcess

RESULT_FILE = ROOT / "target" / "bench" / "faults.json"

RANDOM, SHIPPED = "random", "random, shipped server"
POINT_SHARE = 0.5
"""Of the kills that come from inside."""

LONGEST_SECONDS = 1.5
"""Until a kill from outside."""

LAST_COUNT = {Point.IN_BACKUP: 4, Point.BEFORE_BACKUP_IS_NAMED: 3}
"""A point ends the process at one of its first so many times; 80 where nothing is said."""

EPOCH_KILLS = 25
"""After which the load goes on with other users: the check reads everything of the present ones each time."""

REPLAYS = 5
"""Earlier requests of a user that are sent again after a restart."""


@dataclass
class Totals:
    """What came of the kills of one kind."""

    kills: int = 0
    acknowledged: int = 0
    in_doubt: int = 0
    lost: list[str] = field(default_factory=list)
    corrupted: list[str] = field(default_factory=list)


class Harness:
    """One data folder and everything that is known about it."""

    def __init__(self, data_dir: Path, seed: int, *, is_shipped: bool) -> None:
        self._data_dir = data_dir
        self._rng = random.Random(seed)
        self._is_shipped = is_shipped
        self._epoch: list[Ledger] = []
        self._earlier: list[Ledger] = []
        self._mode = ""
        self.process: ServerProcess | None = None
        self._backups: dict[str, set[str]] = {}
        self.totals: dict[str, Totals] = {}
        self.starts: list[float] = []
        self.at_work: Counter[str] = Counter()
        self.backups = 0
        self.replays = 0

    async def run(self, kills: int, tell: Callable[[], None]) -> None:
        """Kill so many times, and look at everything that ever was at the end. `tell` is called after each kill."""
        for number in range(kills):
            if number % EPOCH_KILLS == 0:
                await self._begin_epoch(number)
            await self._live(number)
            tell()
        if kills:
            async with self._server("") as (server, caller):
                await self._check(caller, [*self._epoch, *self._earlier])
                server.stop()

    async def _begin_epoch(self, number: int) -> None:
        """Other users from now on."""
        if self._epoch:
            async with self._server("") as (server, caller):
                await self._check(caller, self._epoch)
                server.stop()
        self._earlier += self._epoch
        self._epoch = [
            *(Ledger(f"stream-{number}-{i}") for i in range(2)),
            *(Ledger(f"edit-{number}-{i}") for i in range(3)),
            Ledger(f"talk-{number}", is_alone=False),
            Ledger(f"gone-{number}", is_alone=False),
        ]

    def close(self) -> None:
        """Leave no server behind, not even one that was being started."""
        if self.process is not None and self.process.process.poll() is None:
            self.process.kill()

    def _draw(self, number: int) -> tuple[str, str]:
        """How a life ends: its name, and the fault point. The first ones take each point in turn."""
        if self._is_shipped:
            return SHIPPED, ""
        points = list(Point)
        if number < len(points):
            point = points[number]
        elif self._rng.random() < POINT_SHARE:
            point = self._rng.choice(points)
        else:
            return RANDOM, ""
        return str(point), f"{point}:{self._rng.randint(1, LAST_COUNT.get(point, 80))}"

    def _server(self, fault: str) -> _Serving:
        return _Serving(self, fault)

    async def _live(self, number: int) -> None:
        """Start, check what the last life left, work, and be killed."""
        mode, fault = self._draw(number)
        async with self._server(fault) as (server, caller):
            await self._check(caller, self._epoch)
            before = sum(ledger.acknowledged for ledger in self._epoch)
            await self._load(server, caller, is_trapped=bool(fault))
        self._mode = mode
        totals = self.totals.setdefault(mode, Totals())
        totals.kills += 1
        totals.acknowledged += sum(ledger.acknowledged for ledger in self._epoch) - before
        totals.in_doubt += sum(len(ledger.doubtful) for ledger in self._epoch)
        totals.lost += caller.missed

    async def _load(self, server: ServerProcess, caller: Caller, *, is_trapped: bool) -> None:
        streams, edits, (talk, gone) = self._epoch[:2], self._epoch[2:5], self._epoch[5:]
        tasks = [
            *(asyncio.create_task(caller.stream(ledger)) for ledger in streams),
            *(asyncio.create_task(caller.edit(ledger)) for ledger in edits),
            asyncio.create_task(caller.talk(talk)),
            asyncio.create_task(caller.erase(gone)),
            asyncio.create_task(caller.back_up(streams, self._backups)),
        ]
        if is_trapped:
            server.process.send_signal(signal.SIGUSR1)
            await asyncio.to_thread(server.process.wait, ENDED_SECONDS)
        else:
            # A random moment is what is wanted here; nothing waits for anything.
            await asyncio.sleep(self._rng.uniform(0, LONGEST_SECONDS))
            self.at_work += caller.at_work
            server.kill()
        await asyncio.gather(*tasks)

    async def _check(self, caller: Caller, ledgers: Sequence[Ledger]) -> None:
        """Everything that is known of these users, through the server and in the files. What is found is the last kill's."""
        totals = self.totals.setdefault(self._mode, Totals())
        totals.corrupted += await asyncio.to_thread(check_database, self._data_dir)
        folder = self._data_dir / "backups"
        totals.corrupted += find_partials(folder)
        self.backups += len(self._backups)
        for path in sorted(folder.glob("b*")):
            totals.corrupted += check_backup(path, self._backups.pop(path.name, ()))
            path.unlink()
        texts = [text for ledger in ledgers for text in ledger.erased_texts]
        totals.lost += await asyncio.to_thread(find_text, self._data_dir, texts)
        totals.lost += [f"the backup {name} was acknowledged and is not there" for name in self._backups]
        self._backups.clear()
        for ledger in ledgers:
            found = await self._check_user(caller, ledger)
            totals.lost += found.lost
            totals.corrupted += found.corrupted

    async def _check_user(self, caller: Caller, ledger: Ledger) -> Findings:
        doubtful = [operation for operation in ledger.doubtful if isinstance(operation, Write)]
        memories = await caller.list_all(ledger.user_id)
        turns = {memory.id: to_stored(memory) for memory in memories if memory.kind == 1}
        findings = ledger.settle(turns, read_version(self._data_dir, ledger.user_id))
        again = [*doubtful, *self._rng.sample(ledger.writes, min(REPLAYS, len(ledger.writes)))]
        for write in again:
            is_replay, ids = await caller.replay(ledger.user_id, write)
            self.replays += 1
            if not write.ids and not is_replay:  # it was absent: now it is there
                ledger.begin(write)
                ledger.acknowledge(write, ids)
            elif not is_replay or ids != write.ids:
                findings.corrupted.append(f"{ledger.user_id}: {write.request_id} was answered otherwise when repeated")
        if ledger.user_id.startswith("talk"):
            stage = await caller.consolidate(ledger.user_id)
            if stage != "done":
                findings.lost.append(f"{ledger.user_id}: its consolidation ended with {stage}")
        return findings


class _Serving:
    """A life of the server, with a client. It is the caller's to end it."""

    def __init__(self, harness: Harness, fault: str) -> None:
        self._harness = harness
        self._process = ServerProcess(
            harness._data_dir,
            environment={"FAULT": fault},
            module="lightmem_server" if harness._is_shipped else "tests.fault_server",
        )

    async def __aenter__(self) -> tuple[ServerProcess, Caller]:
        began = time.monotonic()
        self._harness.process = self._process
        await asyncio.to_thread(self._process.__enter__)
        self._harness.starts.append(time.monotonic() - began)
        caller = Caller(self._process.address, self._process.key, self._harness._rng)
        self._connection = caller.connect()
        await self._connection.__aenter__()
        return self._process, caller

    async def __aexit__(self, *error: Any) -> None:
        await self._connection.__aexit__(*error)
        if self._process.process.poll() is None:
            self._process.kill()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    options = _parse(arguments)
    lives = [(options.kills, False), (options.shipped, True)]
    harnesses = []
    with tempfile.TemporaryDirectory(prefix="lightmem-faults-") as folder, open_bars() as progress:
        task = progress.add_task("kills", total=options.kills + options.shipped)
        for number, (kills, is_shipped) in enumerate(lives):
            harness = Harness(Path(folder) / f"data-{number}", options.seed + number, is_shipped=is_shipped)
            harnesses.append(harness)
            try:
                asyncio.run(harness.run(kills, lambda: progress.advance(task)))
            except KeyboardInterrupt:
                print("interrupted: this is what there is so far", file=sys.stderr)
                break
            finally:
                harness.close()
    figures = to_figures(harnesses)
    result = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {"kills": options.kills, "shipped": options.shipped, "seed": options.seed, "quick": options.quick},
        "figures": figures,
        "targets": {
            name: {"value": figures["all"][name], "bar": 0, "ok": figures["all"][name] == 0}
            for name in ("lost", "corrupted")
        },
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print_tables(Console(width=None if sys.stdout.isatty() else 160), result)
    return 0 if all(target["ok"] for target in result["targets"].values()) else 1


def to_figures(harnesses: Sequence[Harness]) -> dict[str, Any]:
    """Counts by what killed, and in all."""
    modes = {mode: totals for harness in harnesses for mode, totals in harness.totals.items() if mode}  # "": before any
    names = ("kills", "acknowledged", "in_doubt", "lost", "corrupted")
    rows = {
        mode: {name: len(value) if isinstance(value := getattr(totals, name), list) else value for name in names}
        for mode, totals in sorted(modes.items())
    }
    starts = [seconds for harness in harnesses for seconds in harness.starts]
    return {
        "modes": rows,
        "all": {name: sum(row[name] for row in rows.values()) for name in names},
        "at_work_at_kill": dict(sum((harness.at_work for harness in harnesses), Counter[str]())),
        "checked_backups": sum(harness.backups for harness in harnesses),
        "replayed_requests": sum(harness.replays for harness in harnesses),
        "start_seconds": {"p50": round(statistics.median(starts), 2), "max": round(max(starts), 2)},
        "findings": [line for totals in modes.values() for line in (*totals.lost, *totals.corrupted)][:50],
    }


def print_tables(console: Console, result: dict[str, Any]) -> None:
    """The result for people."""
    figures = result["figures"]
    table = Table("killed at", "kills", "acknowledged", "in doubt", "lost", "corrupted", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for mode, row in (*figures["modes"].items(), ("all", figures["all"])):
        table.add_row(mode.replace("_", " "), *(f"{value:,}" for value in row.values()))
    console.print(table)
    at_work = ", ".join(f"{name} {count}" for name, count in sorted(figures["at_work_at_kill"].items()))
    console.print(f"under way when killed from outside: {at_work}", highlight=False)
    console.print(
        f"{figures['checked_backups']} backups checked, {figures['replayed_requests']} requests repeated; a start takes "
        f"p50 {figures['start_seconds']['p50']} s; {result['machine']['cpu']}, commit {result['commit']}",
        highlight=False,
    )
    for finding in figures["findings"]:
        console.print(finding, highlight=False, markup=False)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=300, help="of the server with fault points; default: 300")
    parser.add_argument("--shipped", type=int, default=30, help="of `lightmem serve`; default: 30")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the load; default: 0")
    parser.add_argument("--quick", action="store_true", help="10 kills")
    options = parser.parse_args(arguments)
    if options.quick:
        options.kills, options.shipped = 10, 0
    return options


if __name__ == "__main__":
    sys.exit(main())
