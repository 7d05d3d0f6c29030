from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from lightmem_server.errors import OverloadedError
from lightmem_server.service.fair import MOST_IDLE, MOST_ROUNDS, QUIET_ROUNDS, Arrivals, FairQueue


class Time:
    """A clock that moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A queue whose turns end when the test says so."""

    def __init__(self, **limits: Any) -> None:
        self.time = Time()
        fixed: dict[str, Any] = {"max_working": 1, "max_working_per_owner": 1, "max_wait_seconds": 60}
        self.queue = FairQueue(**{**fixed, **limits}, clock=self.time)
        self.order: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    def ask(self, owner: str, name: str) -> asyncio.Task[None]:
        self._ends[name] = asyncio.Event()

        async def work() -> None:
            async with self.queue.turn(owner):
                self.order.append(name)
                await self._ends[name].wait()

        return asyncio.create_task(work())

    async def end(self, name: str, seconds: float = 1.0) -> None:
        """Let a turn end after so long."""
        self.time.now += seconds
        self._ends[name].set()
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_flood_waits_for_itself_and_the_other_user_comes_next() -> None:
    bench = Bench()
    flood = [bench.ask("a", f"a{i}") for i in range(50)]
    await settle()
    other = bench.ask("b", "b0")
    await settle()
    assert bench.order == ["a0"]
    await bench.end("a0")
    assert bench.order == ["a0", "b0"]
    await bench.end("b0")
    await asyncio.gather(other)
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_users_who_all_wait_get_like_shares_of_the_time_not_of_the_turns() -> None:
    """a's turns take 4 times as long: b has 4 times as many of them."""
    bench = Bench()
    tasks = [bench.ask(owner, f"{owner}{i}") for i in range(100) for owner in "ab"]
    await settle()
    for place in range(100):
        name = bench.order[place]
        await bench.end(name, 4.0 if name[0] == "a" else 1.0)
    counts = Counter(name[0] for name in bench.order[:100])
    assert counts["b"] / counts["a"] == pytest.approx(4, rel=0.15)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_was_idle_has_no_claim_on_the_past_and_no_debt_either() -> None:
    bench = Bench()
    tasks = [bench.ask("a", f"a{i}") for i in range(40)]
    await settle()
    for i in range(20):
        await bench.end(f"a{i}")
    tasks += [bench.ask("b", f"b{i}") for i in range(20)]
    await settle()
    for _ in range(10):
        await bench.end(bench.order[-1])
    assert 4 <= sum(name[0] == "b" for name in bench.order[21:]) <= 6
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_owner_has_only_so_many_turns_at_a_time_and_a_newcomer_finds_one_free() -> None:
    bench = Bench(max_working=4, max_working_per_owner=2)
    tasks = [bench.ask("a", f"a{i}") for i in range(10)]
    await settle()
    assert bench.order == ["a0", "a1"]
    tasks.append(bench.ask("b", "b0"))
    await settle()
    assert bench.order == ["a0", "a1", "b0"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_waits_too_long_is_refused_with_a_time_to_retry() -> None:
    bench = Bench(max_wait_seconds=0.0)
    first = bench.ask("a", "a0")
    await settle()
    with pytest.raises(OverloadedError, match="no turn came") as caught:
        await bench.ask("b", "b0")
    assert caught.value.retry_after_seconds > 0
    await bench.end("a0")
    await first
    await asyncio.gather(bench.ask("b", "b1"), bench.end("b1"))
    assert bench.order == ["a0", "b1"]


async def test_without_room_the_newest_of_the_longest_line_ends() -> None:
    bench = Bench()
    tasks = [bench.ask("a", f"a{i}") for i in range(4)] + [bench.ask("b", "b0")]
    await settle()
    assert bench.queue.shed(longer_than=1)
    await settle()
    assert isinstance(tasks[3].exception(), OverloadedError)
    assert not bench.queue.shed(longer_than=2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_callers_who_leave_give_their_places_back() -> None:
    bench = Bench(max_working=2, max_working_per_owner=2)
    tasks = [bench.ask(owner, f"{owner}{i}") for i in range(5) for owner in "ab"]
    await settle()
    for task in tasks[:9]:
        task.cancel()
    await settle()
    assert bench.order[-1] == "b4"
    await bench.end("b4")
    await tasks[9]
    assert bench.queue.waiting_count == 0
    assert not bench.queue._lines, "an idle queue remembers nobody"


async def test_a_turn_that_came_when_the_caller_left_is_not_lost() -> None:
    bench = Bench()
    first, second = bench.ask("a", "a0"), bench.ask("b", "b0")
    await settle()
    bench._ends["a0"].set()
    await asyncio.sleep(0)
    second.cancel()
    await settle()
    await first
    await asyncio.gather(bench.ask("c", "c0"), bench.end("c0"))
    assert bench.order[-1] == "c0"


async def test_memory_is_bounded_while_the_queue_is_never_idle() -> None:
    bench = Bench(max_working=2)
    blocker = bench.ask("a", "a0")
    await settle()
    for number in range(MOST_IDLE + 100):
        async with bench.queue.turn(number):
            bench.time.now += 0.001
    assert len(bench.queue._lines) <= MOST_IDLE + 2
    await bench.end("a0")
    await blocker


async def test_calls_that_come_go_ahead_of_a_turn_that_others_wait_for() -> None:
    arrivals = Arrivals()
    bench = Bench(arrivals=arrivals)
    tasks = [bench.ask("a", "a0"), bench.ask("b", "b0")]
    await settle()
    bench._ends["a0"].set()
    for _ in range(4):  # a call every few rounds: nothing is begun
        for _ in range(QUIET_ROUNDS // 2):
            await asyncio.sleep(0)
        arrivals.note()
        assert bench.order == ["a0"]
    for _ in range(QUIET_ROUNDS + 4):
        await asyncio.sleep(0)
    assert bench.order == ["a0", "b0"]
    bench._ends["b0"].set()
    await asyncio.gather(*tasks)


async def test_calls_that_never_end_to_come_do_not_keep_who_waits_from_a_turn() -> None:
    arrivals = Arrivals()
    bench = Bench(arrivals=arrivals)
    tasks = [bench.ask("a", "a0"), bench.ask("b", "b0")]
    await settle()
    bench._ends["a0"].set()
    for _ in range(MOST_ROUNDS + 10):
        arrivals.note()
        await asyncio.sleep(0)
    assert bench.order == ["a0", "b0"]
    bench._ends["b0"].set()
    await asyncio.gather(*tasks)


async def test_who_comes_while_calls_are_let_in_waits_in_line() -> None:
    arrivals = Arrivals()
    bench = Bench(arrivals=arrivals)
    tasks = [bench.ask("a", "a0"), bench.ask("b", "b0")]
    await settle()
    bench._ends["a0"].set()
    await asyncio.sleep(0)
    tasks.append(bench.ask("c", "c0"))
    await asyncio.sleep(0)
    assert bench.order == ["a0"]
    for _ in range(2 * QUIET_ROUNDS):
        await asyncio.sleep(0)
    assert bench.order == ["a0", "b0"]
    bench._ends["b0"].set()
    bench._ends["c0"].set()
    await asyncio.gather(*tasks)
