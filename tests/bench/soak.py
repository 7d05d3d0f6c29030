"""A server with more to do than it can: fair between users, bounded in memory, refusals with a time to retry.

    python -m tests.bench.soak                       fairness, then 10 minutes at 3 times what it can
    python -m tests.bench.soak --minutes 3           as long as it is told
    python -m tests.bench.soak --parts fair          one part
    python -m tests.bench.soak --quick               seconds; judges nothing

part    what it does                                                                        the bar
fair    one user's calls at a steady rate, alone and beside another user who floods         p95 <= 2x that alone
soak    Retrieves (4 in 5) and Writes of 20 users, open loop, at 3 times the closed loop's  memory <= its bound
        throughput; resident memory every second                                            every refusal with RetryInfo

At the end everything that was acknowledged has to be there, and the store sound.

Alone and flooded take turns, so that a busy machine is busy for both. The load comes from the same machine. Memory's bound is
what the server had after its start, plus the resident partitions' setting, plus OTHER_MIB.

Writes target/bench/soak.json, and target/bench/soak.svg where matplotlib is there (`make bench-soak` installs it). Ends with 1
when a bar is missed, unless it was quick.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightmem_client import AsyncClient, MemoryFilter, RetryPolicy, WriteResult

from lightmem_server.cli.process import RunningServer, clean_environment, running_server
from lightmem_server.config import load
from tests.bench import report
from tests.bench.arrivals import make_arrivals
from tests.bench.fault_check import check_database
from tests.bench.fault_table import Result, Row
from tests.bench.loops import at_moments
from tests.bench.options import ROOT
from tests.bench.tally import Tally
from tests.bench.telling import Telling

RESULT_FILE = ROOT / "target" / "bench" / "soak.json"
PLOT_FILE = RESULT_FILE.with_suffix(".svg")
WORDS_FILE = ROOT / "lightmem_server" / "cli" / "demo_conversation.jsonl"

RESIDENT_MIB = 64
OTHER_MIB = 192
"""Buffers of calls at work, the database's cache, what the allocator keeps."""

NO_RETRY = RetryPolicy(max_attempts=1)
CALL_SECONDS = 20
OVERLOAD = 3.0
USERS = 20
VICTIM, FLOODER = "victim", "flooder"
MAX_OPEN = 2000
"""Calls of the generator at once: beyond it the server would be waiting for the generator."""

Work = Callable[[int], Awaitable[object]]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    told_turns: int = 200
    rounds: int = 3
    round_seconds: float = 7.0
    victim_rate: float = 3.0
    flood_clients: int = 16
    capacity_seconds: float = 15.0
    soak_seconds: float = 600.0


QUICK = Sizes(told_turns=20, rounds=1, round_seconds=1.0, flood_clients=4, capacity_seconds=1.0, soak_seconds=4.0)


async def at_rate(work: Work, rate: float, seconds: float, seed: int, tally: Tally) -> None:
    """Call at the moments of a Poisson process."""

    async def one(number: int, intended: float) -> None:
        await tally.count(work(number), intended)

    moments = make_arrivals(rate, seconds, seed=seed)
    await at_moments(one, moments, max_open=MAX_OPEN, not_sent=lambda _: tally.count_not_sent())


async def flooding(work: Work, clients: int, tally: Tally) -> None:
    """Call again as soon as it was answered, or refused, until cancelled."""

    async def one(client: int) -> None:
        number = client
        while True:
            await tally.count(work(number), time.perf_counter())
            number += clients

    await asyncio.gather(*(one(client) for client in range(clients)))


class Soak:
    """The bench on one server."""

    def __init__(self, server: RunningServer, client: AsyncClient, sizes: Sizes, texts: Sequence[str]) -> None:
        self.server = server
        self.client = client
        self.sizes = sizes
        self.texts = texts
        self.start_mib = self.rss_mib()
        self.told: dict[str, dict[str, str]] = {}
        """What was acknowledged to each user: texts by id."""
        self.offered = 0

    def rss_mib(self) -> float:
        """Resident memory of the server."""
        return int(Path(f"/proc/{self.server.process_id}/statm").read_text().split()[1]) * 4096 / (1 << 20)

    async def tell(self, user: str) -> None:
        """Give a user something to search."""
        count = self.sizes.told_turns
        said = [f"{self.texts[i % len(self.texts)]} ({i})" for i in range(count)]
        for start in range(0, count, 100):
            part = said[start : start + 100]
            ack = await self.client.write(part, user_id=user, session_id="told", timeout_seconds=120)
            self._keep(user, ack, part)

    def _keep(self, user: str, ack: WriteResult, said: Sequence[str]) -> None:
        self.told.setdefault(user, {}).update(zip(ack.memory_ids, said, strict=True))

    async def check_told(self, row: Row) -> None:
        """Note what was acknowledged and isn't there."""
        everything = MemoryFilter(include_archived=True)
        for user, told in self.told.items():
            found = self.client.list(user_id=user, filter=everything)
            row.compare(told, {memory.id: memory.text async for memory in found}, whose=f"{user}: ")
        row.injected = self.offered
        row.acknowledged = sum(map(len, self.told.values()))

    def retrieve(self, user: str) -> Work:
        """Number i asks about text i."""

        async def work(number: int) -> object:
            return await self.client.retrieve(self.texts[number % len(self.texts)], user_id=user)

        return work

    def write(self, user: str, turns: int) -> Work:
        """Number i says some texts from the i-th on."""

        async def work(number: int) -> object:
            said = [f"{self.texts[(number + i) % len(self.texts)]} [{number}.{i}]" for i in range(turns)]
            ack = await self.client.write(said, user_id=user, session_id=f"s{number % 50}")
            self._keep(user, ack, said)
            return ack

        return work

    async def fair(self, tell: Callable[[str], None]) -> dict[str, Any]:
        """p95 of one user, alone and beside a flood, for each pair of calls."""
        await self.tell(VICTIM)
        await self.tell(FLOODER)
        pairs = {
            "retrieve beside retrieves": (self.retrieve(VICTIM), self.retrieve(FLOODER)),
            "retrieve beside writes": (self.retrieve(VICTIM), self.write(FLOODER, 32)),
            "write beside writes": (self.write(VICTIM, 1), self.write(FLOODER, 32)),
        }
        figures: dict[str, Any] = {}
        for name, (steady, flood) in pairs.items():
            alone, beside, flooded = Tally(), Tally(), Tally()
            for number in range(self.sizes.rounds):
                await at_rate(steady, self.sizes.victim_rate, self.sizes.round_seconds, number, alone)
                task = asyncio.create_task(flooding(flood, self.sizes.flood_clients, flooded))
                await at_rate(steady, self.sizes.victim_rate, self.sizes.round_seconds, number, beside)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            tell(f"fair: {name}")
            self.offered += sum(flooded.statuses.values())
            p95 = [tally.answered.percentile_ms(0.95) for tally in (alone, beside)]
            figures[name] = {
                "alone": alone.answered.summary(),
                "beside": beside.answered.summary(),
                "statuses": dict(beside.statuses),
                "flood_statuses": dict(flooded.statuses),
                "ratio_of_p95": round(p95[1] / p95[0], 2) if p95[0] and p95[1] else None,
            }
        return figures

    async def soak(self, tell: Callable[[str], None]) -> dict[str, Any]:
        """Overload for minutes."""
        users = [f"user-{number}" for number in range(USERS)]
        for user in users:
            await self.tell(user)
        retrieves, writes = [self.retrieve(user) for user in users], [self.write(user, 1) for user in users]

        async def mixed(number: int) -> object:
            work = (writes if number % 5 == 4 else retrieves)[
                number % USERS if number % 5 != 4 else number // 5 % USERS
            ]
            return await work(number)

        capacity = Tally()
        task = asyncio.create_task(flooding(mixed, 8, capacity))
        await asyncio.sleep(self.sizes.capacity_seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        rate = OVERLOAD * max(1.0, capacity.statuses["OK"] / self.sizes.capacity_seconds)
        tally, memory = Tally(), [(0.0, self.rss_mib())]
        sampling = asyncio.create_task(self._sample(memory, tell))
        began = time.perf_counter()
        await at_rate(mixed, rate, self.sizes.soak_seconds, 1, tally)
        seconds = time.perf_counter() - began
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        self.offered += sum(tally.statuses.values())
        after = Tally()
        await at_rate(mixed, rate / OVERLOAD / 2, min(10.0, self.sizes.soak_seconds), 2, after)
        return {
            "seconds": round(seconds, 1),
            "capacity_per_second": round(rate / OVERLOAD, 1),
            "offered_per_second": round(rate, 1),
            "answered_per_second": round(tally.statuses["OK"] / seconds, 1),
            "statuses": dict(tally.statuses),
            "reasons": dict(tally.reasons),
            "statuses_after_at_half_capacity": dict(after.statuses),
            "refusals_without_retry_info": tally.without_retry_info,
            "latency": tally.answered.summary(),
            "rss_mib": {"start": round(self.start_mib, 1), "most": round(max(mib for _, mib in memory), 1)},
            "memory": [(round(at, 1), round(mib, 1)) for at, mib in memory],
        }

    async def _sample(self, memory: list[tuple[float, float]], tell: Callable[[str], None]) -> None:
        began = time.perf_counter()
        while True:
            await asyncio.sleep(1.0)
            memory.append((time.perf_counter() - began, self.rss_mib()))
            tell(f"3 times the capacity for {memory[-1][0]:.0f} s, {memory[-1][1]:.0f} MiB")


def targets(figures: dict[str, Any]) -> dict[str, Any]:
    """The bars and whether they hold."""
    made: dict[str, Any] = {
        f"fair: {name}": {"value": part["ratio_of_p95"], "bar": 2.0, "ok": (part["ratio_of_p95"] or 9) <= 2.0}
        for name, part in figures.get("fair", {}).items()
    }
    if "soak" in figures:
        soak = figures["soak"]
        bound = soak["rss_mib"]["start"] + RESIDENT_MIB + OTHER_MIB
        most = soak["rss_mib"]["most"]
        made["soak: memory, MiB"] = {"value": most, "bar": round(bound, 1), "ok": most <= bound}
        others = set(soak["statuses"]) - {"OK", "RESOURCE_EXHAUSTED"}
        made["soak: other statuses"] = {"value": len(others), "bar": 0, "ok": not others}
        without = soak["refusals_without_retry_info"]
        made["soak: refusals without RetryInfo"] = {"value": without, "bar": 0, "ok": without == 0}
        later = set(soak["statuses_after_at_half_capacity"]) - {"OK"}
        made["soak: refused afterwards"] = {"value": len(later), "bar": 0, "ok": not later}
    return made


def plot(figures: dict[str, Any], bound: float) -> None:
    """Memory over time, as SVG; says so where that can't be done."""
    if importlib.util.find_spec("matplotlib") is None:
        print("SKIPPED: the plot needs matplotlib, which `make bench-soak` installs", file=sys.stderr)
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="tight")
    axes = figure.add_subplot()
    axes.plot(*zip(*figures["soak"]["memory"], strict=True), label="resident memory")
    axes.axhline(bound, linestyle="--", color="grey", label="bound")
    axes.set(xlabel="seconds at 3 times the capacity", ylabel="MiB", ylim=(0, None))
    axes.legend()
    PLOT_FILE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT_FILE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--parts", default="fair,soak", help="fair, soak or both; default: both")
    parser.add_argument("--serve", default="", help="further flags of `lightmem serve`, such as '--threads 1'")
    parser.add_argument("--quick", action="store_true", help="seconds; judges nothing")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else Sizes(soak_seconds=options.minutes * 60)
    telling, found = Telling(), Result()
    telling.begin("soak")
    with tempfile.TemporaryDirectory(prefix="lightmem-soak-") as folder:
        parts, serve = options.parts.split(","), options.serve.split()
        run(sizes, Path(folder), telling.step, found, parts=parts, serve=serve)
    (row,) = found.rows
    telling.end(f"{row.counts()}")
    figures, bars = found.figures["soak"], found.figures["bars"]
    bars |= {
        name: {"value": n, "bar": 0, "ok": n == 0} for name, n in row.counts().items() if name in ("lost", "corrupted")
    }
    result = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {
            "quick": options.quick,
            "minutes": options.minutes,
            "parts": options.parts,
            "serve": options.serve,
        },
        "figures": {**figures, "acknowledged": row.counts()},
        "targets": bars,
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    shown = {name: {k: v for k, v in part.items() if k != "memory"} for name, part in figures.items()}
    print(json.dumps({"figures": shown, "targets": result["targets"]}, indent=2))
    return 0 if all(target["ok"] for target in result["targets"].values()) else 1


def run(
    sizes: Sizes,
    folder: Path,
    tell: Callable[[str], None],
    result: Result,
    *,
    parts: Sequence[str] = ("fair", "soak"),
    serve: Sequence[str] = (),
) -> None:
    """Give a server of its own too much to do.

    Args:
        folder: Where its data may lie.
        tell: Called with how far it is.
        result: Gets a row; the figures as "soak", and as "bars" what they are judged by, nothing when it is quick.
        serve: Further flags of `lightmem serve`.
    """
    row = Row("more to do than it can")
    result.rows.append(row)
    figures: dict[str, Any] = {}
    asyncio.run(_measure(sizes, folder / "data", tell, parts, serve, figures, row))
    row.corrupted += check_database(folder / "data")
    bars = {} if sizes is QUICK else targets(figures)
    row.wrong += [f"soak: {name}: {bar['value']}, bar {bar['bar']}" for name, bar in bars.items() if not bar["ok"]]
    result.figures |= {"soak": figures, "bars": bars}
    if "soak" in figures and sizes is not QUICK:
        plot(figures, figures["soak"]["rss_mib"]["start"] + RESIDENT_MIB + OTHER_MIB)


async def _measure(
    sizes: Sizes,
    data_dir: Path,
    tell: Callable[[str], None],
    parts: Sequence[str],
    serve: Sequence[str],
    figures: dict[str, Any],
    row: Row,
) -> None:
    texts = [json.loads(line)["text"] for line in WORDS_FILE.read_text("utf-8").splitlines()]
    flags = ("--models-dir", str(load().models_dir), "--resident-bytes", str(RESIDENT_MIB << 20), *serve)
    with running_server(data_dir, flags=flags, environment=clean_environment()) as server:
        async with AsyncClient(
            server.target, api_key=server.key, retry=NO_RETRY, timeout_seconds=CALL_SECONDS
        ) as client:
            await client.wait_ready(timeout_seconds=60)
            soak = Soak(server, client, sizes, texts)
            for part in parts:
                figures[part] = await {"fair": soak.fair, "soak": soak.soak}[part](tell)
            await soak.check_told(row)


if __name__ == "__main__":
    sys.exit(main())
