"""Kills a server at random moments under a mixed load, and looks for what was acknowledged: a part of `make faults`.

    start ─▶ check everything that is known ─▶ load ─▶ SIGKILL ─▶ again

A kill comes from outside at a random moment, or from inside at a fault point (tests/fault_server.py). The shipped server with
the real models is killed as well. Drained, it gets a SIGTERM under the same load instead, and has to end by itself with 0.

SIGKILL ends a process, not the machine: what the operating system holds is not lost. That a commit reaches the disk before
its ack rests on SQLite's `synchronous=FULL`, which a test reads back (tests/unit/store/test_connection.py).
"""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from tests.bench.fault_check import check_backup, check_database, find_partials, find_text, read_version
from tests.bench.fault_ledger import Findings, Ledger, Write
from tests.bench.fault_load import Caller, to_stored
from tests.bench.fault_table import Result, Row
from tests.fault_server import Point
from tests.server_process import ENDED_SECONDS, ServerProcess


class End(Enum):
    """How the lives of a server end."""

    KILLED = "killed"
    """At a fault point or at a random moment."""
    SHIPPED_KILLED = "shipped, killed"
    """`lightmem serve` with the real models, at a random moment."""
    DRAINED = "drained"
    """By SIGTERM, at a random moment."""
    STOPPED = "stopped"
    """As KILLED, at a random moment, after SIGSTOP and SIGCONT: time has gone by, and nothing was done in it."""


DRAIN_SECONDS = 2
"""What calls that are open get to end in; streams of this load never do by themselves."""

POINT_SHARE = 0.5
"""Of the kills that come from inside."""

LONGEST_SECONDS = 1.5
"""Until a kill from outside."""

ENDS_OF_A_DRAIN = frozenset({"CANCELLED", "UNAVAILABLE"})
"""Statuses of calls that were still open at the end of the grace, or came after its beginning."""

NAMES = {
    End.KILLED: "killed at a random moment",
    End.SHIPPED_KILLED: "killed at a random moment, the shipped server",
    End.DRAINED: "SIGTERM under load",
    End.STOPPED: "SIGSTOP and SIGCONT under load, then killed",
}

LAST_COUNT = {Point.IN_BACKUP: 4, Point.BEFORE_BACKUP_IS_NAMED: 3}
"""A point ends the process at one of its first so many times; 80 where nothing is said."""

EPOCH_KILLS = 25
"""After which the load goes on with other users: the check reads everything of the present ones each time."""

REPLAYS = 5
"""Earlier requests of a user that are sent again after a restart."""


class Harness:
    """One data folder and everything that is known about it."""

    def __init__(self, data_dir: Path, seed: int, end: End) -> None:
        self._data_dir = data_dir
        self._rng = random.Random(seed)
        self._end = end
        self._epoch: list[Ledger] = []
        self._earlier: list[Ledger] = []
        self._mode = ""
        self.process: ServerProcess | None = None
        self._backups: dict[str, set[str]] = {}
        self.rows: dict[str, Row] = {}
        self.drains: list[float] = []
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
        if self._end is not End.KILLED:
            return NAMES[self._end], ""
        points = list(Point)
        if number < len(points):
            point = points[number]
        elif self._rng.random() < POINT_SHARE:
            point = self._rng.choice(points)
        else:
            return NAMES[self._end], ""
        return f"killed {str(point).replace('_', ' ')}", f"{point}:{self._rng.randint(1, LAST_COUNT.get(point, 80))}"

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
        totals = self._row(mode)
        totals.injected += 1
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
            if self._end is End.STOPPED:
                server.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(self._rng.uniform(0, LONGEST_SECONDS))
                server.process.send_signal(signal.SIGCONT)
                await asyncio.sleep(self._rng.uniform(0, LONGEST_SECONDS))
            if self._end is End.DRAINED:
                await self._drain(server)
            else:
                server.kill()
        await asyncio.gather(*tasks)
        if self._end is End.DRAINED:
            others = caller.ended.keys() - ENDS_OF_A_DRAIN
            self._row(NAMES[self._end]).wrong += [
                f"a call ended with {status} at SIGTERM ({caller.last_words[status]})" for status in sorted(others)
            ]

    async def _drain(self, server: ServerProcess) -> None:
        """SIGTERM: what is at work may end, and the server ends by itself."""
        began = time.monotonic()
        status = await asyncio.to_thread(server.stop)
        self.drains.append(time.monotonic() - began)
        if status != 0:
            self._row(NAMES[self._end]).wrong.append(f"SIGTERM under load ended with {status}")

    def _row(self, mode: str) -> Row:
        return self.rows.setdefault(mode, Row(mode))

    async def _check(self, caller: Caller, ledgers: Sequence[Ledger]) -> None:
        """Everything that is known of these users, through the server and in the files. What is found is the last kill's."""
        totals = self._row(self._mode)
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


ALONE = {"LIGHTMEM_CONSOLIDATION_IDLE_SECONDS": "86400"}
"""Runs come when they are asked for. A run that rest begins adds commits to the users whose commits are counted, which
happened on a machine so busy that 300 kills took an hour."""


class _Serving:
    """A life of the server, with a client. It is the caller's to end it."""

    def __init__(self, harness: Harness, fault: str) -> None:
        self._harness = harness
        self._process = ServerProcess(
            harness._data_dir,
            *(("--drain-seconds", str(DRAIN_SECONDS)) if harness._end is End.DRAINED else ()),
            environment={"FAULT": fault, **ALONE},
            module="lightmem_server" if harness._end is End.SHIPPED_KILLED else "tests.fault_server",
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


def run_lives(
    folder: Path, lives: Sequence[tuple[int, End]], seed: int, tell: Callable[[], None], result: Result
) -> None:
    """End so many lives of a server in each way. What came of it is in `result` also where it is interrupted.

    Args:
        lives: How many, and how they end; each sort on a data folder of its own.
        tell: Called after each.
    """
    starts: list[float] = []
    drains: list[float] = []
    at_work: Counter[str] = Counter()
    for number, (count, end) in enumerate(lives):
        harness = Harness(folder / f"data-{number}", seed + number, end)
        try:
            asyncio.run(harness.run(count, tell))
        finally:
            harness.close()
            result.rows += [row for mode, row in sorted(harness.rows.items()) if mode]  # "": before any
            starts += harness.starts
            drains += harness.drains
            at_work += harness.at_work
            result.add("checked_backups", harness.backups)
            result.add("replayed_requests", harness.replays)
            result.figures |= {
                "at_work_at_the_end": dict(at_work),
                "start_seconds": spread(starts),
                "drain_seconds": spread(drains),
            }


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and most; empty for nothing."""
    return {"p50": round(statistics.median(seconds), 2), "max": round(max(seconds), 2)} if seconds else {}
