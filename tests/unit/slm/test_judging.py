"""The queue in front of the Selector, with a run function and a clock that the test controls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from lightmem_server.errors import OverloadedError, UnavailableError
from lightmem_server.slm.judging import JudgeLimits, JudgeQueue, cut
from lightmem_server.slm.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Model:
    """A second per character, on the test's clock; an item's score is its length. Runs when told, or freely."""

    def __init__(self, clock: Clock, *, is_gated: bool = False) -> None:
        self.clock = clock
        self.seconds_per_character = 1.0
        self.is_gated = is_gated
        self.batches: list[list[str]] = []
        self.gates: list[asyncio.Future[None]] = []
        self._changed = asyncio.Event()

    async def run(self, items: Sequence[str]) -> list[float]:
        self.batches.append(list(items))
        self._changed.set()
        if self.is_gated:
            gate = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            await gate
        self.clock.now += self.seconds_per_character * sum(len(item) for item in items)
        return [float(len(item)) for item in items]

    async def started(self, count: int) -> None:
        while len(self.batches) < count:
            self._changed.clear()
            await self._changed.wait()


def make(
    model: Model, *, sub_batch: int = 2, queue: int = 100, concurrency: int = 1, ahead: int = 0
) -> JudgeQueue[str]:
    limits = JudgeLimits(max_queued_items=queue, sub_batch_items=sub_batch, concurrency=concurrency, ahead=ahead)
    return JudgeQueue(model.run, cost=len, limits=limits, pace=Pace(1.0), clock=model.clock)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_without_a_deadline_all_are_judged_in_their_places() -> None:
    queue = make(Model(Clock()))
    assert await queue.judge(["ccc", "a", "bb", "dddd", "e"]) == [3, 1, 2, 4, 1]


async def test_no_items_need_no_model() -> None:
    model = Model(Clock())
    assert await make(model).judge([]) == []
    assert model.batches == []


async def test_items_are_run_in_the_order_given() -> None:
    model = Model(Clock())
    await make(model).judge(["dddd", "a", "ccc", "bb", "hh"])
    assert model.batches == [["dddd", "a"], ["ccc", "bb"], ["hh"]]


async def test_sub_batches_in_flight_together_end_together() -> None:
    # Four and one would keep one of two replicas waiting.
    model = Model(Clock())
    await make(model, sub_batch=4, concurrency=2).judge(["aaaa", "bbbb", "cccc", "dddd", "eeee"])
    assert [len(batch) for batch in model.batches] == [3, 2]


@pytest.mark.parametrize(
    ("costs", "parts", "sizes"),
    [
        ([1, 1, 1, 1], 2, [2, 2]),
        ([1, 1, 1, 1, 1, 6], 2, [5, 1]),
        ([6, 1, 1, 1, 1, 1], 2, [1, 5]),
        ([10, 4, 5, 6, 6, 7, 8, 9], 2, [4, 4]),
        ([3], 2, [1]),
        ([2, 2, 2], 3, [1, 1, 1]),
        ([], 2, []),
    ],
)
def test_items_are_cut_where_its_dearest_part_is_cheapest(costs: list[int], parts: int, sizes: list[int]) -> None:
    assert cut(costs, parts) == sizes


async def test_what_does_not_end_by_the_deadline_is_not_begun() -> None:
    clock = Clock()
    model = Model(clock)
    items = ["aa"] * 10
    scores = await make(model).judge(items, deadline=clock.now + 9)
    assert scores[:4] == [2] * 4
    assert scores[4:] == [None] * 6
    assert model.batches == [["aa", "aa"]] * 2
    assert clock.now <= 109


async def test_a_sub_batch_is_shortened_to_what_fits() -> None:
    clock = Clock()
    model = Model(clock)
    scores = await make(model, sub_batch=4).judge(["a", "b", "cccc", "d"], deadline=clock.now + 3.5)
    assert scores == [1, 1, None, None], "no gap: what is behind one that was left out would not count"
    assert model.batches == [["a", "b"]]


async def test_what_a_shortened_sub_batch_leaves_is_taken_by_the_next_replica() -> None:
    clock = Clock()
    model = Model(clock, is_gated=True)
    queue = make(model, sub_batch=4, concurrency=2)
    task = asyncio.create_task(queue.judge(["aa", "bb", "cc", "dd", "ee", "ff"], deadline=clock.now + 5))
    await model.started(2)
    assert model.batches == [["aa", "bb"], ["cc", "dd"]]
    for gate in model.gates:
        gate.set_result(None)
    assert await task == [2, 2, 2, 2, None, None]


async def test_one_sub_batch_is_handed_over_ahead_and_learns_the_pace_from_when_it_computes() -> None:
    clock = Clock()
    model = Model(clock, is_gated=True)
    queue = make(model, sub_batch=1, ahead=1)
    task = asyncio.create_task(queue.judge(["aa", "bb", "cc"]))
    await model.started(2)
    await settle()
    assert model.batches == [["aa"], ["bb"]]
    for index in range(3):
        await model.started(index + 1)
        model.gates[index].set_result(None)
        await settle()
        model.seconds_per_character = 3.0
    assert await task == [2, 2, 2]
    learned = Pace(1.0)
    for seconds in (2, 6, 6):  # the wait for the one before is not a sub-batch's own
        learned.observe(2, seconds)
    assert queue._pace.seconds_per_unit == pytest.approx(learned.seconds_per_unit)


async def test_what_is_handed_over_ahead_must_fit_behind_what_computes() -> None:
    clock = Clock()
    model = Model(clock, is_gated=True)
    queue = make(model, sub_batch=1, ahead=1)
    first = asyncio.create_task(queue.judge(["aaaa"]))
    await model.started(1)
    clock.now += 1
    assert await queue.judge(["bb"], deadline=clock.now + 4.5) == [None], "3 s of the first are left, and it takes 2"
    second = asyncio.create_task(queue.judge(["bb"], deadline=clock.now + 5.5))
    await model.started(2)
    for gate in model.gates:
        gate.set_result(None)
    assert (await first, await second) == ([4], [2])


@pytest.mark.parametrize("remaining", [0.0, -5.0, 0.5], ids=["now", "past", "too-little"])
async def test_a_deadline_that_leaves_no_time_costs_no_work(remaining: float) -> None:
    clock = Clock()
    model = Model(clock)
    assert await make(model).judge(["a", "b"], deadline=clock.now + remaining) == [None, None]
    assert model.batches == []


async def test_a_slow_model_lowers_what_is_begun() -> None:
    clock = Clock()

    async def run(items: Sequence[str]) -> list[float]:
        clock.now += 10 * sum(len(item) for item in items)
        return [0.0] * len(items)

    queue: JudgeQueue[str] = JudgeQueue(run, cost=len, limits=JudgeLimits(100, 1), pace=Pace(1.0), clock=clock)
    scores = await queue.judge(["a"] * 10, deadline=clock.now + 35)
    assert [score is not None for score in scores] == [True] * 3 + [False] * 7
    assert clock.now <= 135


async def test_a_caller_is_answered_at_the_deadline_even_if_the_model_is_late() -> None:
    model = Model(Clock(), is_gated=True)
    queue: JudgeQueue[str] = JudgeQueue(
        model.run, cost=len, limits=JudgeLimits(100, 1), pace=Pace(1e-6), clock=time.monotonic
    )
    scores = await queue.judge(["a", "b"], deadline=time.monotonic() + 0.02)
    assert scores == [None, None]
    assert model.batches == [["a"]]
    model.gates[0].set_result(None)
    await queue.close()
    assert scores == [None, None], "a late score doesn't change an answer that was given"


async def test_callers_take_turns() -> None:
    model = Model(Clock(), is_gated=True)
    queue = make(model, sub_batch=1)
    long = asyncio.create_task(queue.judge(["l1", "l2", "l3"]))
    await model.started(1)
    short = asyncio.create_task(queue.judge(["s"]))
    await settle()
    for index in range(4):
        await model.started(index + 1)
        model.gates[index].set_result(None)
    assert (await long, await short) == ([2, 2, 2], [1])
    assert model.batches == [["l1"], ["l2"], ["s"], ["l3"]]


async def test_sub_batches_are_in_flight_together() -> None:
    model = Model(Clock(), is_gated=True)
    queue = make(model, sub_batch=1, concurrency=2)
    task = asyncio.create_task(queue.judge(["a", "bb", "ccc"]))
    await model.started(2)
    await settle()
    assert model.batches == [["a"], ["bb"]]
    model.gates[1].set_result(None)
    await model.started(3)
    model.gates[2].set_result(None)
    await settle()
    assert not task.done()
    model.gates[0].set_result(None)
    assert await task == [1, 2, 3]


async def test_over_the_limit_a_caller_is_refused_at_once() -> None:
    model = Model(Clock(), is_gated=True)
    queue = make(model, sub_batch=1, queue=3)
    first = asyncio.create_task(queue.judge(["aa", "bb", "cc"]))
    await model.started(1)
    with pytest.raises(OverloadedError, match="limit of 3") as caught:
        await queue.judge(["d", "e"])
    assert caught.value.retry_after_seconds == pytest.approx(2.0)
    assert queue.queued_items == 2
    first.cancel()
    await settle()
    assert queue.queued_items == 0


async def test_work_of_a_caller_who_left_is_never_run() -> None:
    model = Model(Clock(), is_gated=True)
    queue = make(model, sub_batch=1)
    gone = asyncio.create_task(queue.judge(["a", "b"]))
    await model.started(1)
    stays = asyncio.create_task(queue.judge(["c"]))
    await settle()
    gone.cancel()
    await settle()
    model.gates[0].set_result(None)
    await model.started(2)
    model.gates[1].set_result(None)
    assert await stays == [1]
    assert model.batches == [["a"], ["c"]]


async def test_an_error_reaches_its_caller_alone() -> None:
    model = Model(Clock(), is_gated=True)
    queue = make(model, sub_batch=1)
    failing = asyncio.create_task(queue.judge(["a", "b"]))
    other = asyncio.create_task(queue.judge(["c"]))
    await model.started(1)
    model.gates[0].set_exception(RuntimeError("broken"))
    await model.started(2)
    model.gates[1].set_result(None)
    with pytest.raises(RuntimeError, match="broken"):
        await failing
    assert await other == [1]
    assert model.batches == [["a"], ["c"]]


async def test_a_run_that_loses_a_score_is_an_error_not_a_hang() -> None:
    async def run(items: Sequence[str]) -> list[float]:
        return []

    queue: JudgeQueue[str] = JudgeQueue(run, cost=len, limits=JudgeLimits(10), pace=Pace(1.0))
    with pytest.raises(RuntimeError, match="0 scores for 1 items"):
        await queue.judge(["a"])


async def test_closing_fails_what_waits_and_ends_what_runs() -> None:
    model = Model(Clock(), is_gated=True)
    queue = make(model, sub_batch=1)
    whole, half = asyncio.create_task(queue.judge(["a"])), asyncio.create_task(queue.judge(["b"]))
    await model.started(1)
    await settle()
    closing = asyncio.create_task(queue.close())
    await settle()
    assert not closing.done()
    with pytest.raises(UnavailableError):
        await half
    model.gates[0].set_result(None)
    await closing
    assert await whole == [1]
    with pytest.raises(UnavailableError):
        await queue.judge(["c"])
    await queue.close()


async def test_whether_an_item_fits_counts_what_computes_before_it() -> None:
    clock = Clock()
    model = Model(clock, is_gated=True)
    queue = make(model)
    assert queue.fits(2, clock.now + 2)
    assert not queue.fits(2, clock.now + 1.9)
    task = asyncio.create_task(queue.judge(["aaaa"]))
    await model.started(1)
    assert not queue.fits(2, clock.now + 5)
    model.gates[0].set_result(None)
    await task


async def test_after_a_stall_items_are_judged_again_though_their_deadlines_are_short() -> None:
    clock = Clock()
    model = Model(clock)
    queue = make(model)
    await queue.judge(["a"])
    clock_seconds, model.seconds_per_character = clock.now, 1000.0
    await queue.judge(["a"])
    assert clock.now == clock_seconds + 1000
    model.seconds_per_character = 1.0
    judged = [await queue.judge(["a"], deadline=clock.now + 5) for _ in range(100)]
    assert judged[0] == [None]
    assert judged[-1] == [1]
