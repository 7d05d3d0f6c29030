"""The part `beside` of the latency bench: what an answer takes while others are consolidated, and what it takes alone.

Rounds in turns: a client asks one question after another on an idle server; then the same while another user is consolidated,
by rules (what a server does by default), and with the largest Writer that is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from lightmem_client import AsyncClient, Client, FailedPreconditionError
from rich.progress import TaskID

from lightmem_server.slm.models import ModelState, list_models
from tests.bench import report
from tests.bench.consolidated import WRITERS
from tests.bench.latency_setting import Bench, asking, connected, warm_up
from tests.bench.loops import Call, Recorder
from tests.bench.quality import Told, tell

NEVER = "86400"
"""Seconds until a server begins to consolidate by itself: what is measured alone has to be."""
AT_WORK = frozenset({"abstract", "ground", "integrate"})

Rounds = Sequence[tuple[Sequence[float], Sequence[float]]]


def measure_beside(bench: Bench) -> dict[str, Any]:
    """Latency of one client, alone and beside a consolidation."""
    made: dict[str, Any] = {"steps": {}}
    for writer in ("lite", *itertools.islice(_installed(bench), 1)):
        flags = ("--writer", writer, "--consolidation-seconds-per-hour", "0", "--consolidation-idle-seconds", NEVER)
        with bench.server(*flags) as (target, key), Client(target, api_key=key, timeout_seconds=120) as client:
            asked, *others = tell(client, bench.conversations, bench.progress)[0]
            others += tell(client, bench.conversations, bench.progress)[0]
            steps, rounds = asyncio.run(_beside(bench, target, key, writer, asked, others))
        made["steps"] |= steps
        made |= {f"{writer}_{name}": value for name, value in ratios(rounds).items()}
    return made


def ratios(rounds: Rounds) -> dict[str, float]:
    """How the times beside a consolidation compare with those alone: over all rounds, and the extremes of the rounds."""
    alone = [seconds for one, _ in rounds for seconds in one]
    beside = [seconds for _, one in rounds for seconds in one]
    each = [report.percentile(busy, 0.95) / report.percentile(idle, 0.95) for idle, busy in rounds]
    return {
        "p50_ratio": round(report.percentile(beside, 0.5) / report.percentile(alone, 0.5), 4),
        "p95_ratio": round(report.percentile(beside, 0.95) / report.percentile(alone, 0.95), 4),
        "p95_ratio_lowest": round(min(each), 4),
        "p95_ratio_median": round(statistics.median(each), 4),
        "p95_ratio_highest": round(max(each), 4),
    }


def _installed(bench: Bench) -> Iterator[str]:
    """The Writers that are there, the largest first."""
    there = {status.name for status in list_models(bench.settings.models_dir) if status.state is ModelState.INSTALLED}
    return (profile for profile, model in WRITERS.items() if model in there)


async def _beside(
    bench: Bench, target: str, key: str, writer: str, asked: Told, others: Sequence[Told]
) -> tuple[dict[str, Any], Rounds]:
    sizes, pairs = bench.sizes, [(asked, question) for question in asked.conversation.questions]
    idle, busy = Recorder(), Recorder()
    rounds: list[tuple[list[float], list[float]]] = []
    task = bench.progress.add_task(f"beside {writer}", total=2 * sizes.beside_rounds * sizes.beside_calls)
    queue = iter(others)
    async with connected(target, key, 1) as clients, connected(target, key, 1) as admins:
        await warm_up(clients, pairs)
        call, numbers = asking(clients, pairs), itertools.count()
        for _ in range(sizes.beside_rounds):
            alone = await _ask(bench, call, numbers, idle, task)
            beside: list[float] = []
            while len(beside) < sizes.beside_calls and (other := next(queue, None)) is not None:
                async with _consolidating(admins[0], other.user_id) as run:
                    beside += await _ask(bench, call, numbers, busy, task, run=run, count=len(beside))
            if beside:
                rounds.append((alone, beside))
    return {f"{writer}: alone": idle.figures(), f"{writer}: beside": busy.figures()}, rounds


async def _ask(
    bench: Bench,
    call: Call,
    numbers: Iterator[int],
    recorder: Recorder,
    task: TaskID,
    *,
    run: asyncio.Task[None] | None = None,
    count: int = 0,
) -> list[float]:
    """One question after another, until there are enough or the run has ended. Returns seconds."""
    taken: list[float] = []
    while count + len(taken) < bench.sizes.beside_calls and (run is None or not run.done()):
        began = time.perf_counter()
        answer = await call(next(numbers), 0)
        elapsed = time.perf_counter() - began
        recorder.add(answer, waited_seconds=0, service_seconds=elapsed)
        recorder.elapsed_seconds += elapsed
        taken.append(elapsed)
        bench.progress.advance(task)
    return taken


@contextlib.asynccontextmanager
async def _consolidating(admin: AsyncClient, user_id: str) -> AsyncIterator[asyncio.Task[None]]:
    """A run that is at work, until it ends or this does."""
    begun = asyncio.Event()

    async def follow() -> None:
        with contextlib.suppress(FailedPreconditionError):  # cancelled below
            async for moment in admin.consolidate(user_id=user_id):
                if moment.stage in AT_WORK:
                    begun.set()
        begun.set()

    run = asyncio.create_task(follow())
    try:
        await begun.wait()
        yield run
    finally:
        await admin.cancel_consolidation(user_id=user_id)
        await run
