"""The worker: nothing is lost and nothing done twice, whatever ends it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lightmem_server.errors import LightMemError, ModelError, NotFoundError, StoreError
from lightmem_server.pipeline.consolidation.progress import Ending
from lightmem_server.pipeline.consolidation.run import JOB_KIND, WATERMARK
from lightmem_server.store.jobs import LAST_BACKOFF_MICROS, backoff_micros
from lightmem_server.store.protocol import Change, JobRecord
from lightmem_server.store.run_protocol import RunState
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Partition
from tests.contract.store_records import USER, make_change, make_memory
from tests.unit.pipeline.consolidation.conftest import SECOND, START, Workshop
from tests.unit.pipeline.consolidation.echo import facts

BOB = Partition("default", "bob")
ENDED_SECONDS = 60
"""A guard against hanging, not a measurement."""


class Gate:
    """Holds a consolidator at one moment."""

    def __init__(self, moment: str, text: str) -> None:
        self._moment = (moment, text)
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, moment: str, text: str) -> None:
        if (moment, text) == self._moment:
            self.reached.set()
            await self.opened.wait()


def failing(error: BaseException, *, times: int = 1, text: str = "two") -> Callable[[str, str], Awaitable[None]]:
    left = [error] * times

    async def at(moment: str, window: str) -> None:
        if (moment, window) == ("write", text) and left:
            raise left.pop()

    return at


async def pending(workshop: Workshop) -> int:
    return (await workshop.store.stats("default")).pending_job_count


async def test_a_job_becomes_a_run_and_moves_the_watermark(workshop: Workshop) -> None:
    await workshop.write("one", "two", cause="overflow")
    following = asyncio.create_task(workshop.follow())
    await asyncio.sleep(0)
    assert await workshop.worker().step()
    assert await facts(workshop.store, USER) == ["ONE", "TWO"]
    (run,) = await workshop.store.list_runs(USER, limit=9)
    assert (run.state, run.cause, run.model, run.prompt) == (RunState.DONE, "overflow", "echo", "1")
    assert (run.kept_count, run.rejected, run.model_tokens) == (2, {"question": 1}, 6)
    assert await workshop.store.watermark(USER, WATERMARK) == run.to_version == 1
    assert await pending(workshop) == 0
    last = (await following)[-1]
    assert (last.run_id, last.stage, last.kept, last.ending) == (run.run_id, "done", 2, Ending.DONE)
    assert not await workshop.worker().step()


async def test_a_second_run_looks_at_what_is_new(workshop: Workshop) -> None:
    await workshop.write("one")
    await workshop.worker().step()
    await workshop.write("two")
    await workshop.worker().step()
    assert workshop.echo.written == ["one", "two"]


async def test_a_job_without_news_ends_without_a_run(workshop: Workshop) -> None:
    await workshop.write("one")
    await workshop.worker().step()
    await workshop.store.commit(Change(USER, jobs=[JobRecord(JOB_KIND)]))
    following = asyncio.create_task(workshop.follow())
    await asyncio.sleep(0)
    assert await workshop.worker().step()
    assert [post.ending for post in await following] == [Ending.DONE]
    assert len(await workshop.store.list_runs(USER, limit=9)) == 1
    assert await pending(workshop) == 0


async def test_one_run_of_a_user_at_a_time_and_others_beside_it(workshop: Workshop) -> None:
    gate = workshop.echo.at = Gate("write", "one")
    await workshop.write("one")
    at_work = asyncio.create_task(workshop.worker().step())
    await gate.reached.wait()
    await workshop.write("two")
    await workshop.write("three", partition=BOB)
    other = workshop.worker()
    assert await other.step()
    assert not await other.step()
    assert workshop.echo.written == ["three"]
    gate.opened.set()
    assert await at_work
    assert await other.step()
    assert await facts(workshop.store, USER) == ["ONE", "TWO"]


async def test_as_many_runs_at_once_as_there_are_workers(workshop: Workshop) -> None:
    workshop.policy = replace(workshop.policy, workers=2)
    both = asyncio.Barrier(2)

    async def at(moment: str, text: str) -> None:
        if moment == "write":
            await both.wait()

    workshop.echo.at = at
    await workshop.write("one")
    await workshop.write("two", partition=BOB)
    following = [asyncio.create_task(workshop.follow(partition)) for partition in (USER, BOB)]
    await asyncio.sleep(0)
    working = asyncio.create_task(workshop.worker().run())
    async with asyncio.timeout(ENDED_SECONDS):
        ends = await asyncio.gather(*following)
    assert [posts[-1].ending for posts in ends] == [Ending.DONE, Ending.DONE]
    working.cancel()
    await asyncio.wait({working})


# Failures


async def test_a_failed_run_goes_on_at_its_steps_after_a_wait(workshop: Workshop) -> None:
    workshop.echo.at = failing(NotFoundError("no such thing"))
    await workshop.write("one", "two")
    following = asyncio.create_task(workshop.follow())
    await asyncio.sleep(0)
    assert await workshop.worker().step()
    last = (await following)[-1]
    assert (last.ending, last.error) == (Ending.FAILED, "no such thing")
    assert not await workshop.worker().step()
    workshop.now += backoff_micros(1)
    assert await workshop.worker().step()
    assert workshop.echo.written == ["one", "two"]
    assert await facts(workshop.store, USER) == ["ONE", "TWO"]
    (run,) = await workshop.store.list_runs(USER, limit=9)
    assert run.state is RunState.DONE


@pytest.mark.parametrize("error", [NotFoundError("gone"), KeyError("a defect of ours")], ids=["typed", "defect"])
async def test_what_fails_too_often_is_set_aside_with_its_run(workshop: Workshop, error: Exception) -> None:
    workshop.policy = replace(workshop.policy, most_attempts=3)
    workshop.echo.at = failing(error, times=9)
    await workshop.write("one", "two")
    for _ in range(3):
        assert await workshop.worker().step()
        workshop.now += LAST_BACKOFF_MICROS
    assert not await workshop.worker().step()
    (dead,) = await workshop.store.list_dead_jobs("default", limit=9)
    assert dead.error == ("gone" if isinstance(error, LightMemError) else "a defect: KeyError")
    (run,) = await workshop.store.list_runs(USER, limit=9)
    assert (run.state, run.error) == (RunState.FAILED, dead.error)
    workshop.echo.at = failing(error, times=0)
    await workshop.store.commit(Change(USER, jobs=[JobRecord(JOB_KIND, revives=True)]))
    assert await workshop.worker().step()
    assert "TWO" in await facts(workshop.store, USER)


@pytest.mark.parametrize("error", [StoreError("full"), ModelError("no model")], ids=["disk", "model"])
async def test_failures_of_the_surroundings_never_set_a_job_aside(workshop: Workshop, error: LightMemError) -> None:
    workshop.policy = replace(workshop.policy, most_attempts=2)
    workshop.echo.at = failing(error, times=4)
    await workshop.write("one", "two")
    for _ in range(5):
        assert await workshop.worker().step()
        workshop.now += LAST_BACKOFF_MICROS
    assert await facts(workshop.store, USER) == ["ONE", "TWO"]


# Stopping


async def test_a_stopped_worker_gives_its_job_back_at_once_and_untried(workshop: Workshop) -> None:
    gate = workshop.echo.at = Gate("write", "two")
    await workshop.write("one", "two")
    worker = asyncio.create_task(workshop.worker().run())
    await gate.reached.wait()
    worker.cancel()
    await asyncio.wait({worker})
    job = await workshop.store.claim_job([JOB_KIND], owner="w", lease_micros=1, now=workshop.now)
    assert job is not None
    assert job.attempt == 1
    workshop.now += 1
    gate.opened.set()
    assert await workshop.worker().step()
    assert workshop.echo.written == ["one", "two"]
    assert await facts(workshop.store, USER) == ["ONE", "TWO"]


async def test_a_cancelled_run_stops_within_its_step_and_keeps_what_it_committed(workshop: Workshop) -> None:
    gate = workshop.echo.at = Gate("write", "two")
    await workshop.write("one", "two")
    worker = workshop.worker()
    following = asyncio.create_task(workshop.follow())
    at_work = asyncio.create_task(worker.step())
    await gate.reached.wait()
    cancelled = await worker.cancel(USER)
    assert await at_work
    (run,) = await workshop.store.list_runs(USER, limit=9)
    assert (cancelled.job_count, cancelled.run_id, run.state) == (1, run.run_id, RunState.CANCELLED)
    assert (await following)[-1].ending is Ending.CANCELLED
    assert await facts(workshop.store, USER) == ["ONE"]
    assert await pending(workshop) == 0


async def test_a_waiting_job_is_cancelled_too(workshop: Workshop) -> None:
    await workshop.write("one")
    assert (await workshop.worker().cancel(USER)).job_count == 1
    assert not await workshop.worker().step()
    assert (await workshop.worker().cancel(USER)).job_count == 0


async def test_a_heartbeat_keeps_the_lease_and_its_loss_stops_the_work(workshop: Workshop) -> None:
    workshop.policy = replace(workshop.policy, lease_seconds=0.003)
    gate = workshop.echo.at = Gate("write", "one")
    await workshop.write("one")
    at_work = asyncio.create_task(workshop.worker().step())
    await gate.reached.wait()
    lapses_at = await workshop.store.next_job_at([JOB_KIND])
    assert lapses_at == START + 3000
    workshop.now += 1000 * SECOND
    while await workshop.store.next_job_at([JOB_KIND]) == lapses_at:  # noqa: ASYNC110  # the store tells nobody of it
        await asyncio.sleep(0)
    await workshop.store.cancel_run(USER, JOB_KIND, now=workshop.now)  # as another process would
    assert await at_work
    assert workshop.echo.written == []


async def test_a_memory_deleted_meanwhile_leaves_no_fact(workshop: Workshop) -> None:
    gate = workshop.echo.at = Gate("write", "two")
    turns = await workshop.write("one", "two", "three")
    at_work = asyncio.create_task(workshop.worker().step())
    await gate.reached.wait()
    await workshop.store.commit(Change(USER, deletes=[turns[1].id]))
    gate.opened.set()
    assert await at_work
    assert await facts(workshop.store, USER) == ["ONE", "THREE"]


# Budget


async def test_the_budget_of_an_hour_holds_across_restarts(workshop: Workshop) -> None:
    workshop.policy = replace(workshop.policy, seconds_per_hour=100)
    workshop.echo.seconds = 40
    await workshop.write(*(str(number) for number in range(7)))
    following = asyncio.create_task(workshop.follow())
    await asyncio.sleep(0)
    assert await workshop.worker().step()
    assert len(workshop.echo.written) == 3  # 120 seconds: the one that crossed the line is the last
    await workshop.write("0", partition=BOB)
    assert await workshop.worker().step()  # another user of the namespace: put back before anything is begun
    assert await workshop.store.list_runs(BOB, limit=9) == []
    assert not await workshop.worker().step()
    (stats,) = [await workshop.store.stats("default")]
    assert (stats.pending_job_count, stats.dead_job_count) == (2, 0)
    await workshop.store.close()
    await workshop.store.open()
    workshop.now += 3600 * SECOND
    assert not await workshop.worker().step()  # the minute in which it was spent counts whole
    workshop.now += 60 * SECOND
    assert await workshop.worker().step()
    assert len(workshop.echo.written) == 6
    workshop.now += 2 * 3660 * SECOND
    while await workshop.worker().step():
        workshop.now += 3660 * SECOND
    assert sorted(await facts(workshop.store, USER)) == [str(number) for number in range(7)]
    assert len(workshop.echo.written) == 8
    assert (await following)[-1].ending is Ending.DONE


async def test_other_namespaces_have_budgets_of_their_own(workshop: Workshop) -> None:
    workshop.policy = replace(workshop.policy, seconds_per_hour=1)
    workshop.echo.seconds = 40
    other = Partition("other", "ada")
    await workshop.write("one", "two")
    await workshop.write("three", partition=other)
    assert await workshop.worker().step()
    assert await workshop.worker().step()
    assert workshop.echo.written == ["one", "three"]


async def test_without_a_limit_nothing_waits(workshop: Workshop) -> None:
    workshop.policy = replace(workshop.policy, seconds_per_hour=0)
    workshop.echo.seconds = 10_000
    await workshop.write("one", "two")
    assert await workshop.worker().step()
    assert len(await facts(workshop.store, USER)) == 2


# Killing


def run_process(data_dir: Path, now: int, *stop_at: str) -> list[str]:
    """The moments that a process printed, until it ended or, where it was to stop, was killed."""
    command = [sys.executable, "-m", "tests.unit.pipeline.consolidation.worker_process", str(data_dir), str(now)]
    with subprocess.Popen([*command, *stop_at], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            if line == "here\n":
                process.kill()
                break
            lines.append(line.strip())
        assert process.wait(ENDED_SECONDS) == (-9 if stop_at else 0)
    return lines


@pytest.mark.parametrize(
    "stop_at",
    [("write", "one"), ("saved", "two"), ("committed", "two"), ("write", "three"), ("end", "")],
    ids=["before the first", "saved and not committed", "committed", "between", "before the job is finished"],
)
async def test_a_kill_in_any_state_neither_loses_nor_doubles(tmp_path: Path, stop_at: tuple[str, str]) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.commit(make_change([make_memory(text) for text in ("one", "two", "three")], jobs=[JobRecord(JOB_KIND)]))
    await store.close()
    first = run_process(tmp_path, START, *stop_at)
    second = run_process(tmp_path, START + SECOND)  # the lease of a killed server is over
    saved = [moment for moment in first if moment.startswith("saved")]
    written = [moment for moment in second if moment.startswith("write")]
    assert len(saved) + len(written) == 3
    assert run_process(tmp_path, START + 3600 * SECOND) == []
    await store.open()
    assert await facts(store, USER) == ["ONE", "TWO", "THREE"]
    assert await store.watermark(USER, WATERMARK) == 1
    (run,) = await store.list_runs(USER, limit=9)
    assert run.state is RunState.DONE
    await store.close()
