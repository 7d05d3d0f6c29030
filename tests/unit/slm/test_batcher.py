"""The cross-request batcher, with a run function that the test controls: nothing here depends on timing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from lightmem_server.errors import OverloadedError, UnavailableError
from lightmem_server.slm.batcher import MAX_QUERY_RUN, Batcher, BatcherLimits, Priority


class Model:
    """Runs a batch when the test says so. The result of an item is its upper case; its cost is its length."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gates: list[asyncio.Future[None]] = []
        self._changed = asyncio.Event()

    async def run(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        self._changed.set()
        await gate
        return [item.upper() for item in items]

    async def started(self, count: int) -> None:
        """Until `count` batches have been started."""
        while len(self.batches) < count:
            self._changed.clear()
            await self._changed.wait()

    def finish(self, index: int, error: Exception | None = None) -> None:
        if error is None:
            self.gates[index].set_result(None)
        else:
            self.gates[index].set_exception(error)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(
    model: Model, *, cost: int = 100, queue: int = 100, concurrency: int = 1, extra: int = 0, clock: Clock | None = None
) -> Batcher[str, str]:
    limits = BatcherLimits(
        max_batch_cost=cost, max_queued_items=queue, concurrency=concurrency, extra_for_queries=extra
    )
    return Batcher(model.run, cost=len, limits=limits, clock=clock or Clock())


def submit(batcher: Batcher[str, str], *items: str, priority: Priority = Priority.PASSAGE) -> asyncio.Task[list[str]]:
    return asyncio.create_task(batcher.submit(items, priority))


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def occupied(*, cost: int = 100, queue: int = 100) -> tuple[Model, Batcher[str, str], asyncio.Task[list[str]]]:
    """A batcher that is running one batch, so that what comes now waits."""
    model = Model()
    batcher = make(model, cost=cost, queue=queue)
    task = submit(batcher, "first")
    await model.started(1)
    return model, batcher, task


async def test_results_come_in_the_order_of_the_items() -> None:
    model = Model()
    task = submit(make(model), "b", "a", "c")
    await model.started(1)
    model.finish(0)
    assert await task == ["B", "A", "C"]


async def test_a_run_that_gives_a_future_is_begun_at_once() -> None:
    begun: list[Sequence[str]] = []

    def run(items: Sequence[str]) -> asyncio.Future[list[str]]:
        begun.append(items)
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        future.set_result([item.upper() for item in items])
        return future

    batcher: Batcher[str, str] = Batcher(run, cost=len, limits=BatcherLimits(max_batch_cost=9, max_queued_items=9))
    task = submit(batcher, "a", "b")
    await asyncio.sleep(0)  # the caller's own first step, and none of another task's
    assert begun == [["a", "b"]]
    assert await task == ["A", "B"]


async def test_nothing_to_do_needs_no_model() -> None:
    model = Model()
    assert await make(model).submit([], Priority.PASSAGE) == []
    assert model.batches == []


async def test_requests_that_wait_share_a_batch() -> None:
    model, batcher, first = await occupied()
    second, third = submit(batcher, "a"), submit(batcher, "b", "c")
    await settle()
    model.finish(0)
    await model.started(2)
    assert model.batches[1] == ["a", "b", "c"]
    model.finish(1)
    assert (await first, await second, await third) == (["FIRST"], ["A"], ["B", "C"])


async def test_a_batch_is_cut_by_cost() -> None:
    model, batcher, _ = await occupied(cost=10)
    task = submit(batcher, "aaaa", "bbbb", "cccc", "dd")
    await settle()
    for index in range(3):
        await model.started(index + 1)
        model.finish(index)
    assert await task == ["AAAA", "BBBB", "CCCC", "DD"]
    assert model.batches[1:] == [["aaaa", "bbbb"], ["cccc", "dd"]]


async def test_only_what_is_of_the_first_ones_kind_shares_a_batch() -> None:
    model = Model()
    limits = BatcherLimits(max_batch_cost=5, max_queued_items=100)
    batcher = Batcher(model.run, cost=len, kind=lambda item: item[0], limits=limits, clock=Clock())
    first = submit(batcher, "x")
    await model.started(1)
    tasks = [submit(batcher, *items) for items in (("a1",), ("b1", "a2"), ("a3", "a4"), ("b2",))]
    await settle()
    for index in range(4):
        await model.started(index + 1)
        model.finish(index)
        await settle()
    assert model.batches[:4] == [["x"], ["a1", "a3"], ["b1", "b2"], ["a2", "a4"]]
    assert [await task for task in tasks] == [["A1"], ["B1", "A2"], ["A3", "A4"], ["B2"]]
    await first
    assert batcher.queued_items == 0


async def test_a_large_request_takes_turns_with_those_that_came_later() -> None:
    model, batcher, _ = await occupied(cost=2)
    tasks = [submit(batcher, "a", "b", "c", "d", "e", "f"), submit(batcher, "x", "y", "z")]
    await settle()
    for index in range(6):
        await model.started(index + 1)
        model.finish(index)
    assert [await task for task in tasks] == [["A", "B", "C", "D", "E", "F"], ["X", "Y", "Z"]]
    assert model.batches[1:] == [["a", "b"], ["x", "y"], ["c", "d"], ["z", "e"], ["f"]]


async def test_an_item_above_the_budget_is_a_batch_of_its_own() -> None:
    model, batcher, _ = await occupied(cost=5)
    task = submit(batcher, "a", "much too long", "b")
    await settle()
    for index in range(4):
        await model.started(index + 1)
        model.finish(index)
    assert await task == ["A", "MUCH TOO LONG", "B"]
    assert model.batches[1:] == [["a"], ["much too long"], ["b"]]


async def test_batches_run_at_once_up_to_the_concurrency() -> None:
    model = Model()
    batcher = make(model, cost=1, concurrency=2)
    task = submit(batcher, "a", "b", "c")
    await model.started(2)
    await settle()
    assert model.batches == [["a"], ["b"]]
    model.finish(1)
    await model.started(3)
    model.finish(2)
    model.finish(0)
    assert await task == ["A", "B", "C"]


async def test_passages_leave_a_place_while_they_stand_aside_but_for_the_last() -> None:
    model, is_reading = Model(), True
    limits = BatcherLimits(max_batch_cost=1, max_queued_items=100, concurrency=2)
    batcher: Batcher[str, str] = Batcher(model.run, cost=len, limits=limits, stands_aside=lambda: is_reading)
    task = submit(batcher, "a", "b", "c")
    await model.started(1)
    await settle()
    assert model.batches == [["a"]]
    is_reading = False
    model.finish(0)
    await model.started(3)
    for index in (1, 2):
        model.finish(index)
    assert await task == ["A", "B", "C"]


async def test_passages_may_run_elsewhere() -> None:
    model, bulk = Model(), Model()
    limits = BatcherLimits(max_batch_cost=9, max_queued_items=9, concurrency=2)
    batcher: Batcher[str, str] = Batcher(model.run, cost=len, limits=limits, run_passages=bulk.run)
    query, passage = submit(batcher, "q", priority=Priority.QUERY), submit(batcher, "p")
    await model.started(1)
    await bulk.started(1)
    assert (model.batches, bulk.batches) == ([["q"]], [["p"]])
    model.finish(0)
    bulk.finish(0)
    assert (await query, await passage) == (["Q"], ["P"])


async def test_queries_go_ahead_of_passages_and_apart_from_them() -> None:
    model, batcher, _ = await occupied()
    passages = submit(batcher, "p1", "p2")
    queries = submit(batcher, "q1", priority=Priority.QUERY)
    await settle()
    for index in range(3):
        await model.started(index + 1)
        model.finish(index)
    await asyncio.gather(passages, queries)
    assert model.batches[1:] == [["q1"], ["p1", "p2"]]


async def test_a_query_need_not_wait_for_the_passages_being_run() -> None:
    model = Model()
    batcher = make(model, cost=1, extra=1)
    passages = submit(batcher, "p", "r")
    await model.started(1)
    query = submit(batcher, "q", priority=Priority.QUERY)
    await model.started(2)
    assert model.batches == [["p"], ["q"]]
    model.finish(1)
    assert await query == ["Q"]
    await settle()
    assert model.batches == [["p"], ["q"]], "the extra place is not for passages"
    model.finish(0)
    await model.started(3)
    model.finish(2)
    assert await passages == ["P", "R"]


async def test_passages_get_a_turn_under_an_endless_stream_of_queries() -> None:
    model, batcher, _ = await occupied(cost=1)
    passage = submit(batcher, "p")
    queries = [submit(batcher, "q", priority=Priority.QUERY) for _ in range(MAX_QUERY_RUN + 3)]
    await settle()
    index = 0
    while not passage.done():
        await model.started(index + 1)
        model.finish(index)
        index += 1
        await settle()
    assert model.batches.index(["p"]) == 1 + MAX_QUERY_RUN
    for task in queries:
        task.cancel()


async def test_over_the_limit_a_caller_is_refused_at_once_with_a_time_to_retry() -> None:
    model, batcher, first = await occupied(queue=3)
    waiting = submit(batcher, "a", "b")
    await settle()
    with pytest.raises(OverloadedError, match="limit of 3") as caught:
        await batcher.submit(["c", "d"], Priority.PASSAGE)
    assert caught.value.retry_after_seconds >= 0.01
    assert batcher.queued_items == 2, "nothing of the refused request was queued"
    model.finish(0)
    await model.started(2)
    model.finish(1)
    assert (await first, await waiting) == (["FIRST"], ["A", "B"])


async def test_the_limit_counts_what_waits_not_what_runs() -> None:
    model, batcher, _ = await occupied(queue=2)
    waiting = submit(batcher, "a", "b")
    await settle()
    assert not waiting.done()
    model.finish(0)
    await model.started(2)
    submit(batcher, "c", "d").add_done_callback(lambda task: task.cancelled() or task.exception())
    await settle()
    assert batcher.queued_items == 2


async def test_a_request_above_the_limit_is_taken_by_an_idle_batcher() -> None:
    model = Model()
    task = submit(make(model, queue=2), "a", "b", "c")
    await model.started(1)
    model.finish(0)
    assert await task == ["A", "B", "C"]


async def test_the_time_to_retry_follows_the_pace_of_the_model() -> None:
    model, clock = Model(), Clock()
    batcher = make(model, cost=10, queue=1, clock=clock)
    first = submit(batcher, "x" * 10)
    await model.started(1)
    clock.now += 1.0  # 10 units took a second
    model.finish(0)
    await first
    submit(batcher, "x" * 10).add_done_callback(lambda task: task.cancelled() or task.exception())
    await model.started(2)
    waiting = submit(batcher, "y" * 40)
    await settle()
    with pytest.raises(OverloadedError) as caught:
        await batcher.submit(["z"], Priority.PASSAGE)
    assert 2.0 <= caught.value.retry_after_seconds <= 3.0
    waiting.cancel()


async def test_work_of_a_caller_who_left_is_never_run() -> None:
    model, batcher, first = await occupied()
    gone, stays = submit(batcher, "gone"), submit(batcher, "stays")
    await settle()
    gone.cancel()
    await settle()
    assert batcher.queued_items == 1
    model.finish(0)
    await model.started(2)
    model.finish(1)
    assert (await first, await stays) == (["FIRST"], ["STAYS"])
    assert model.batches == [["first"], ["stays"]]


async def test_a_caller_who_leaves_halfway_takes_the_rest_along() -> None:
    model = Model()
    batcher = make(model, cost=1)
    gone, stays = submit(batcher, "a", "b", "c"), submit(batcher, "d")
    await model.started(1)
    gone.cancel()
    await settle()
    model.finish(0)
    await model.started(2)
    model.finish(1)
    assert await stays == ["D"]
    assert model.batches == [["a"], ["d"]]


async def test_the_last_caller_to_leave_empties_the_queue() -> None:
    model, batcher, _ = await occupied()
    gone = submit(batcher, "a", "b")
    await settle()
    gone.cancel()
    await settle()
    assert batcher.queued_items == 0
    model.finish(0)
    await settle()
    assert model.batches == [["first"]]


async def test_an_error_reaches_exactly_the_callers_of_its_batch() -> None:
    model = Model()
    batcher = make(model, cost=2)
    first = submit(batcher, "aa")
    second, third, fourth = submit(batcher, "b"), submit(batcher, "c"), submit(batcher, "dd")
    await model.started(1)
    model.finish(0)
    await model.started(2)
    model.finish(1, RuntimeError("broken"))
    await model.started(3)
    model.finish(2)
    assert (await first, await fourth) == (["AA"], ["DD"])
    for task in (second, third):
        with pytest.raises(RuntimeError, match="broken"):
            await task


async def test_a_failed_request_is_not_run_further() -> None:
    model = Model()
    batcher = make(model, cost=1)
    failing, other = submit(batcher, "a", "b", "c"), submit(batcher, "d")
    await model.started(1)
    model.finish(0, RuntimeError("broken"))
    await model.started(2)
    model.finish(1)
    with pytest.raises(RuntimeError, match="broken"):
        await failing
    assert await other == ["D"]
    assert model.batches == [["a"], ["d"]]


async def test_a_run_that_loses_a_result_is_an_error_not_a_hang() -> None:
    async def run(items: Sequence[str]) -> list[str]:
        return list(items)[:-1]

    limits = BatcherLimits(max_batch_cost=10, max_queued_items=10)
    batcher: Batcher[str, str] = Batcher(run, cost=len, limits=limits)
    with pytest.raises(RuntimeError, match="1 results for 2 items"):
        await batcher.submit(["a", "b"], Priority.PASSAGE)


async def test_closing_fails_what_waits_and_ends_what_runs() -> None:
    model, batcher, first = await occupied()
    waiting = submit(batcher, "a")
    query = submit(batcher, "q", priority=Priority.QUERY)
    await settle()
    closing = asyncio.create_task(batcher.close())
    await settle()
    assert not closing.done(), "the batch being run is waited for"
    for task in (waiting, query):
        with pytest.raises(UnavailableError):
            await task
    model.finish(0)
    await closing
    assert await first == ["FIRST"]
    assert model.batches == [["first"]]


async def test_closing_fails_a_request_that_is_half_run() -> None:
    model = Model()
    batcher = make(model, cost=1)
    task = submit(batcher, "a", "b")
    await model.started(1)
    closing = asyncio.create_task(batcher.close())
    await settle()
    model.finish(0)
    await closing
    with pytest.raises(UnavailableError):
        await task
    assert model.batches == [["a"]]


async def test_after_closing_new_work_is_refused() -> None:
    batcher = make(Model())
    await batcher.close()
    await batcher.close()
    with pytest.raises(UnavailableError):
        await batcher.submit(["a"], Priority.QUERY)


async def test_a_batch_that_is_cancelled_answers_its_callers() -> None:
    model, _, first = await occupied()
    model.gates[0].cancel()
    with pytest.raises(UnavailableError):
        await first


async def test_many_callers_with_cancellations_and_errors_all_get_an_answer() -> None:
    async def run(items: Sequence[str]) -> list[str]:
        await asyncio.sleep(0)
        if "bad" in items:
            raise RuntimeError("broken")
        return [item.upper() for item in items]

    limits = BatcherLimits(max_batch_cost=7, max_queued_items=10_000, concurrency=3, extra_for_queries=1)
    batcher: Batcher[str, str] = Batcher(run, cost=len, limits=limits)
    tasks = []
    for number in range(300):
        items = ["bad"] if number % 17 == 0 else [f"{number}-{i}" for i in range(1 + number % 5)]
        priority = Priority.QUERY if number % 3 == 0 else Priority.PASSAGE
        tasks.append((items, submit(batcher, *items, priority=priority)))
        if number % 11 == 0:
            await asyncio.sleep(0)
            tasks[number // 2][1].cancel()
    outcomes = await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
    for (items, _), outcome in zip(tasks, outcomes, strict=True):
        if isinstance(outcome, list):
            assert outcome == [item.upper() for item in items]
        else:
            assert isinstance(outcome, asyncio.CancelledError | RuntimeError)
    assert sum(isinstance(outcome, list) for outcome in outcomes) > 150
    assert batcher.queued_items == 0
    await batcher.close()
