from __future__ import annotations

import asyncio
import time

import pytest
from lightmem_client import (
    Budget,
    DropReason,
    OverloadedError,
    RetrievalTrace,
    RetrieveResult,
    SelectorMode,
    TraceCandidate,
    TracePlan,
    TraceStage,
)

from tests.bench.loops import Recorder, at_moments, closed_loop, merge_statuses, open_loop


def answer(*, seconds: float = 0.01, judged: int = 2, unjudged: int = 1, is_cut: bool = False) -> RetrieveResult:
    candidates = tuple(
        TraceCandidate(
            f"m{number}", number + 1, 0.0, {}, 1.0 if number < judged else None, 0.0, 1, DropReason.UNSPECIFIED
        )
        for number in range(judged + unjudged)
    )
    plan = TracePlan(("q",), None, None, "", Budget(10, 32, 1024, 0.15), SelectorMode.FAST)
    trace = RetrievalTrace(plan, (TraceStage("embed", seconds / 2, 1),), candidates, seconds, is_cut, 3)
    return RetrieveResult(context=(), coarse=(), memories=(), packed_context="", token_count=0, trace=trace)


def test_recorder_counts_what_the_trace_says() -> None:
    recorder = Recorder()
    recorder.add(answer(is_cut=True), waited_seconds=0.03, service_seconds=0.02)
    recorder.add(answer(judged=4), waited_seconds=0, service_seconds=0.02)
    recorder.elapsed_seconds = 2
    figures = recorder.figures()
    assert figures["end_to_end"]["max_ms"] == pytest.approx(50, rel=1e-3)
    assert figures["service"]["max_ms"] == pytest.approx(20, rel=1e-3)
    assert figures["stages"]["embed"]["p50_ms"] == pytest.approx(5, rel=1e-3)
    assert (figures["cut_share"], figures["judged_per_answer"]) == (0.5, 3)
    assert (figures["answers_per_second"], figures["judged_per_second"]) == (1, 3)


async def test_a_stall_is_charged_to_everyone_who_would_have_called_meanwhile() -> None:
    """Coordinated omission: ten calls due within 9 ms wait until a generator that stalls for 100 ms goes on."""
    recorder = Recorder()

    async def call(number: int, client: int) -> RetrieveResult:
        if number == 0:
            until = time.perf_counter() + 0.1
            while time.perf_counter() < until:
                pass  # the loop itself is held up, and every later call with it
        return answer()

    await open_loop(call, [0.001 * number for number in range(10)], clients=2, recorder=recorder)
    assert recorder.client.summary()["count"] == 10
    assert (recorder.client.percentile_ms(0.1) or 0) > 90  # the quickest too, on however fast a machine


async def test_calls_beyond_the_most_at_once_are_left_out_and_told() -> None:
    gate = asyncio.Event()
    begun: list[int] = []
    left_out: list[int] = []

    async def work(number: int, intended: float) -> None:
        begun.append(number)
        await gate.wait()

    def not_sent(number: int) -> None:
        left_out.append(number)
        if number == 4:
            gate.set()

    await at_moments(work, [0.0] * 5, max_open=2, not_sent=not_sent)
    assert (sorted(begun), left_out) == ([0, 1], [2, 3, 4])


async def test_a_call_that_breaks_ends_the_run() -> None:
    async def work(number: int, intended: float) -> None:
        raise ValueError(f"defect {number}")

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await at_moments(work, [0.0, 60.0])


async def test_clients_take_turns_in_open_loop() -> None:
    called: list[tuple[int, int]] = []
    heard: list[int] = []

    async def call(number: int, client: int) -> RetrieveResult:
        called.append((number, client))
        return answer()

    await open_loop(call, [0.0] * 5, clients=2, recorder=Recorder(), answered=lambda number, _: heard.append(number))
    assert sorted(called) == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]
    assert sorted(heard) == list(range(5))


async def test_refusals_are_counted_by_status_and_not_as_latencies() -> None:
    recorder = Recorder()

    async def call(number: int, client: int) -> RetrieveResult:
        if number % 2:
            raise OverloadedError("full", retry_after_seconds=0.0)
        return answer()

    await open_loop(call, [0.0] * 6, clients=1, recorder=recorder)
    assert dict(recorder.statuses) == {"OK": 3, "RESOURCE_EXHAUSTED": 3}
    assert len(recorder.client) == 3


async def test_closed_loop_keeps_each_client_at_one_call() -> None:
    recorder = Recorder()
    at_work = {0: 0, 1: 0, 2: 0}

    async def call(number: int, client: int) -> RetrieveResult:
        at_work[client] += 1
        assert at_work[client] == 1
        await asyncio.sleep(0)
        at_work[client] -= 1
        return answer()

    await closed_loop(call, 0.02, clients=3, recorder=recorder)
    assert recorder.statuses["OK"] >= 3
    assert recorder.elapsed_seconds >= 0.02


def test_statuses_add_up() -> None:
    assert merge_statuses([{"statuses": {"OK": 1}}, {"statuses": {"OK": 2, "INTERNAL": 1}}]) == {"OK": 3, "INTERNAL": 1}
