"""The parts of the latency bench: what is sent to which server, and what is made of the answers; latency.py says what for."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightmem_client import Client, RetrieveResult, SelectorMode

from lightmem_server.pipeline.passages import judged_passage
from lightmem_server.slm.encoder import available_threads
from lightmem_server.slm.protocols import Selector
from lightmem_server.slm.selector import load_selector
from tests.bench import fill, latency_report, report
from tests.bench.arrivals import make_arrivals
from tests.bench.datasets import Conversation, Question
from tests.bench.latency_beside import measure_beside
from tests.bench.latency_setting import Bench, advancing, asking, connected, warm_up
from tests.bench.loops import Answered, Recorder, closed_loop, open_loop
from tests.bench.plain_line import PlainLine
from tests.bench.quality import Told, ranking_of

UNCUT_SECONDS = 10.0
"""A deadline that cuts nothing."""

# --- clients ---------------------------------------------------------------------------------------------------------


def measure_clients(bench: Bench) -> dict[str, Any]:
    """Latency at stated rates, and throughput beside the Selector's own."""
    with bench.telling_server() as (target, key):
        return asyncio.run(_clients(bench, target, key))


async def _clients(bench: Bench, target: str, key: str) -> dict[str, Any]:
    sizes, pairs = bench.sizes, bench.questions()
    steps: dict[str, Recorder] = {}
    for count, rate in sizes.rates:
        name = f"{count} client{'s' * (count > 1)}"
        recorder = steps[name] = Recorder()
        arrivals = make_arrivals(rate, sizes.step_seconds, seed=bench.seed)
        task = bench.progress.add_task(f"{name}, {rate:g}/s", total=len(arrivals))
        async with connected(target, key, count) as clients:
            await warm_up(clients, pairs)
            answered = advancing(bench, task)
            await open_loop(asking(clients, pairs), arrivals, clients=count, recorder=recorder, answered=answered)

    name = f"{sizes.busy_clients} busy"
    steps[name] = Recorder()
    await _busy(bench, target, key, name, steps[name])
    passages = _passages(bench)
    made = {}
    for mode in (SelectorMode.FAST, SelectorMode.FULL):
        name = f"{sizes.busy_clients} busy, uncut, {mode.name}"
        recorder = steps[name] = Recorder()
        alone, shares, cores = [], [], []
        for _ in range(sizes.busy_rounds):
            work: list[tuple[str, list[str]]] = []

            def note(number: int, answer: RetrieveResult, work: list[tuple[str, list[str]]] = work) -> None:
                one, question = pairs[number % len(pairs)]
                judged = [candidate.memory_id for candidate in answer.trace.candidates if candidate.logit is not None]
                turns = [one.turn_of_memory[id_] for id_ in judged if id_ in one.turn_of_memory]  # few are facts
                work.append((question.text, [passages[one.user_id, turn_id] for turn_id in turns]))

            options = {"deadline_seconds": UNCUT_SECONDS, "selector_mode": mode}
            judged, seconds = recorder.judged_count, recorder.elapsed_seconds
            cores.append(await _busy(bench, target, key, name, recorder, note, **options))
            alone.append(await _selector_alone(bench, [(query, texts) for query, texts in work if texts]))
            rate = (recorder.judged_count - judged) / (recorder.elapsed_seconds - seconds)
            shares.append(rate / alone[-1])
        share, generator_cores = statistics.mean(shares), statistics.mean(cores)
        made[mode] = {
            "selector_alone_judged_per_second": [round(rate, 1) for rate in alone],
            "throughput_of_selector": round(share, 4),
            "throughput_of_selector_rounds": [round(one, 4) for one in shares],
            "generator_cores": round(generator_cores, 3),
            "throughput_of_selector_on_the_rest": round(share / (1 - generator_cores / available_threads()), 4),
        }
    return {
        "steps": {name: one.figures() for name, one in steps.items()},
        **made[SelectorMode.FAST],
        **{f"full_{name}": value for name, value in made[SelectorMode.FULL].items()},
    }


async def _busy(
    bench: Bench, target: str, key: str, name: str, recorder: Recorder, then: Answered | None = None, **options: Any
) -> float:
    """Clients that ask again as soon as they were answered. Returns the cores that they took themselves."""
    sizes = bench.sizes
    task = bench.progress.add_task(name, total=None)
    earlier = recorder.elapsed_seconds
    async with connected(target, key, sizes.busy_clients) as clients:
        await warm_up(clients, bench.questions())
        call, answered = asking(clients, bench.questions(), **options), advancing(bench, task, then)
        before = time.process_time()
        await closed_loop(call, sizes.busy_seconds, clients=sizes.busy_clients, recorder=recorder, answered=answered)
        generator_cores = (time.process_time() - before) / (recorder.elapsed_seconds - earlier)
    bench.progress.update(task, total=recorder.statuses.total(), completed=recorder.statuses.total())
    return generator_cores


def _passages(bench: Bench) -> dict[tuple[str, str], str]:
    """What the Selector reads of each turn, by user and turn."""
    passages: dict[tuple[str, str], str] = {}
    for one in bench.told:
        for session in one.conversation.sessions:
            for number, turn in enumerate(session.turns):
                said: Any = turn  # has the text and the speaker that the passage is made of
                preceding: Any = session.turns[max(0, number - 1) : number]
                passages[one.user_id, turn.turn_id] = judged_passage(said, preceding)
    return passages


async def _selector_alone(bench: Bench, work: Sequence[tuple[str, list[str]]]) -> float:
    """Passages per second of the Selector with nothing around it."""
    settings, sizes = bench.settings, bench.sizes
    selector = load_selector(settings.models_dir, settings.selector, threads=settings.threads)
    try:
        count, seconds = await judge_busily(selector, work, callers=sizes.busy_clients, seconds=sizes.busy_seconds)
        return count / seconds
    finally:
        await selector.close()


async def judge_busily(
    selector: Selector, work: Sequence[tuple[str, Sequence[str]]], *, callers: int, seconds: float
) -> tuple[int, float]:
    """Let so many callers ask again as soon as they were answered. Returns the passages judged, and the seconds it took."""
    numbers = itertools.count()
    counts = [0] * callers  # one each: `total += await ...` reads the total before it waits, and loses the others' work
    began = time.perf_counter()

    async def ask(caller: int) -> None:
        while time.perf_counter() - began < seconds:
            query, texts = work[next(numbers) % len(work)]
            scores = await selector.judge(query, texts)
            counts[caller] += sum(score is not None for score in scores)

    await asyncio.gather(*(ask(caller) for caller in range(callers)))
    return sum(counts), time.perf_counter() - began


# --- deadline --------------------------------------------------------------------------------------------------------


def measure_deadlines(bench: Bench) -> dict[str, Any]:
    """When the answer came for each deadline asked, and how good it was."""
    with bench.telling_server() as (target, key):
        return asyncio.run(_deadlines(bench, target, key))


async def _deadlines(bench: Bench, target: str, key: str) -> dict[str, Any]:
    sizes, pairs = bench.sizes, bench.questions()
    arrivals = make_arrivals(sizes.deadline_rate, sizes.step_seconds, seed=bench.seed)  # the same for each
    made: dict[str, Any] = {}
    async with connected(target, key, 1) as clients:
        await warm_up(clients, pairs)
        for deadline_ms in sizes.deadlines_ms:
            recorder, ranks = Recorder(), []

            def note(number: int, answer: RetrieveResult, ranks: list[tuple[float, float]] = ranks) -> None:
                one, question = pairs[number % len(pairs)]
                found = ranking_of(one, answer)
                ranks.append(
                    (report.recall(found, question.evidence, 10), report.reciprocal_rank(found, question.evidence))
                )

            task = bench.progress.add_task(f"deadline {deadline_ms} ms", total=len(arrivals))
            call = asking(clients, pairs, deadline_seconds=deadline_ms / 1e3)
            await open_loop(call, arrivals, clients=1, recorder=recorder, answered=advancing(bench, task, note))
            made[f"{deadline_ms} ms"] = {
                "deadline_ms": deadline_ms,
                **recorder.figures(),
                "recall_at_10": round(statistics.mean(recall for recall, _ in ranks), 4),
                "mrr": round(statistics.mean(rank for _, rank in ranks), 4),
            }
    return made


# --- scale and cold --------------------------------------------------------------------------------------------------


def _source(bench: Bench) -> Conversation:
    """One conversation of all, as long as is asked for, to be varied."""
    sessions = tuple(
        replace(session, session_id=f"{one.conversation_id}/{session.session_id}")
        for one in bench.conversations
        for session in one.sessions
    )
    questions = tuple(question for one in bench.conversations for question in one.questions)
    return fill.shorten(Conversation("source", sessions, questions), 500, seed=bench.seed)


def _fill(bench: Bench, counts: dict[str, int], source: Conversation) -> None:
    task = bench.progress.add_task("filling", total=sum(counts.values()))
    fill.fill_users(
        bench.settings, source, counts, bench.sizes.source_turns, lambda count: bench.progress.advance(task, count)
    )


def measure_scale(bench: Bench) -> dict[str, Any]:
    """Latency by the number of memories, warm."""
    source = _source(bench)
    counts = {f"scale-{count}": count for count in bench.sizes.memories}
    _fill(bench, counts, source)
    with bench.server() as (target, key):
        return asyncio.run(_scale(bench, target, key, source, list(counts)))


async def _scale(bench: Bench, target: str, key: str, source: Conversation, users: Sequence[str]) -> dict[str, Any]:
    sizes = bench.sizes
    recorders: dict[str, Recorder] = {}
    async with connected(target, key, 1) as clients:
        for user_id in users:
            await clients[0].retrieve("anything", user_id=user_id)  # loads it
        for label, mode in (("", SelectorMode.UNSPECIFIED), (", off", SelectorMode.OFF)):
            task = bench.progress.add_task(f"scale{label}", total=sizes.scale_rounds * len(users))
            for number in range(sizes.scale_rounds):
                question = source.questions[number % len(source.questions)]
                for count, user_id in zip(sizes.memories, users, strict=True):
                    recorder = recorders.setdefault(f"{count}{label}", Recorder())
                    began = time.perf_counter()
                    answer = await clients[0].retrieve(
                        question.text, user_id=user_id, asked_at=source.asked_at, selector_mode=mode
                    )
                    elapsed = time.perf_counter() - began
                    recorder.add(answer, waited_seconds=0, service_seconds=elapsed)
                    recorder.elapsed_seconds += elapsed
                    bench.progress.advance(task)
    steps = {name: recorder.figures() for name, recorder in recorders.items()}
    few, many = (steps[str(count)]["end_to_end"]["p50_ms"] for count in (sizes.memories[0], sizes.memories[-1]))
    few_off, many_off = (
        steps[f"{count}, off"]["end_to_end"]["p50_ms"] for count in (sizes.memories[0], sizes.memories[-1])
    )
    return {"steps": steps, "ratio": round(many / few, 4), "ratio_off": round(many_off / few_off, 4)}


def measure_cold(bench: Bench) -> dict[str, Any]:
    """The first Retrieve of a user after a start: its partition is loaded."""
    sizes, source = bench.sizes, _source(bench)
    counts = {
        f"cold-{count}-{number}": count
        for count, users in zip(sizes.memories, sizes.cold_users, strict=True)
        for number in range(users)
    }
    _fill(bench, counts, source)
    recorders = {count: Recorder() for count in sizes.memories}
    task = bench.progress.add_task("cold", total=sizes.cold_starts * len(counts))
    numbers = itertools.count()
    for _ in range(sizes.cold_starts):
        with bench.server() as (target, key), Client(target, api_key=key, timeout_seconds=120) as client:
            client.retrieve("anything", user_id="nobody")  # the models' and the connection's first call
            for user_id, count in counts.items():
                question = source.questions[next(numbers) % len(source.questions)]
                began = time.perf_counter()
                answer = client.retrieve(question.text, user_id=user_id, asked_at=source.asked_at)
                recorders[count].add(answer, waited_seconds=0, service_seconds=time.perf_counter() - began)
                bench.progress.advance(task)
    return {"steps": {str(count): recorder.figures() for count, recorder in recorders.items()}}


# --- off -------------------------------------------------------------------------------------------------------------


def measure_off(bench: Bench) -> dict[str, Any]:
    """selector=OFF beside the plain line, call by call in turns: the line with the server's users, and with the one that is
    asked alone. As the line's answers come without a trace, so do the server's; with one, too."""
    with bench.telling_server() as (target, key):
        one = bench.told[0]
        texts = {
            told.user_id: [f"{turn.speaker}: {turn.text}" for turn in told.conversation.turns] for told in bench.told
        }
        make_line = functools.partial(PlainLine, bench.settings.models_dir, bench.settings.embedder)
        lines = {"": make_line(texts), "of_one_": make_line({one.user_id: texts[one.user_id]})}
        with Client(target, api_key=key, timeout_seconds=60) as client:
            return _off(bench, client, lines, one)


def _off(bench: Bench, client: Client, lines: Mapping[str, PlainLine], one: Told) -> dict[str, Any]:
    sizes, recorder = bench.sizes, Recorder()
    ours: list[list[float]] = []
    traced: list[list[float]] = []
    theirs: dict[str, list[list[float]]] = {name: [] for name in lines}
    embedding: list[float] = []
    empty: list[float] = []
    questions = itertools.cycle(one.conversation.questions)
    drawn = random.Random(bench.seed)
    task = bench.progress.add_task("off beside the plain line", total=sizes.off_rounds * sizes.off_calls)

    def ask(question: Question, *, exclude_trace: bool) -> float:
        began = time.perf_counter()
        answer = client.retrieve(
            question.text,
            user_id=one.user_id,
            asked_at=one.conversation.asked_at,
            selector_mode=SelectorMode.OFF,
            exclude_trace=exclude_trace,
        )
        elapsed = time.perf_counter() - began
        if not exclude_trace:
            recorder.add(answer, waited_seconds=0, service_seconds=elapsed)
            recorder.elapsed_seconds += elapsed
        return elapsed

    def timed(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    def search(name: str, question: Question) -> float:
        return timed(lambda: lines[name].search(one.user_id, question.text))

    for question in itertools.islice(questions, 10):
        ask(question, exclude_trace=False)
        for name in lines:
            search(name, question)
    recorder = Recorder()
    for _ in range(sizes.off_rounds):
        mine: list[float] = []
        mine_traced: list[float] = []
        others: dict[str, list[float]] = {name: [] for name in lines}
        for question in itertools.islice(questions, sizes.off_calls):
            turns: list[tuple[list[float], Callable[[], float]]] = [
                (mine, functools.partial(ask, question, exclude_trace=True)),
                (mine_traced, functools.partial(ask, question, exclude_trace=False)),
                *((other, functools.partial(search, name, question)) for name, other in others.items()),
                (embedding, functools.partial(timed, functools.partial(lines[""].embed, question.text))),
                (empty, functools.partial(timed, client.is_healthy)),
            ]
            drawn.shuffle(turns)  # each leaves the processor's caches in another state to the next
            for found, measure in turns:
                found.append(measure())
            bench.progress.advance(task)
        ours.append(mine)
        traced.append(mine_traced)
        for name, other in others.items():
            theirs[name].append(other)
    made: dict[str, Any] = {
        "steps": {"selector=OFF through gRPC, with its trace": recorder.figures()},
        "without_trace_p50_ms": round(report.percentile([s for round_ in ours for s in round_], 0.5) * 1e3, 3),
        "without_trace_p95_ms": round(report.percentile([s for round_ in ours for s in round_], 0.95) * 1e3, 3),
        "plain_line_users": len(bench.told),
        "plain_line_embedding_p50_ms": round(report.percentile(embedding, 0.5) * 1e3, 3),
        "empty_call_p50_ms": round(report.percentile(empty, 0.5) * 1e3, 3),
    }
    for name, rounds in theirs.items():
        plain = [seconds for round_ in rounds for seconds in round_]
        made[f"plain_line_{name}p50_ms"] = round(report.percentile(plain, 0.5) * 1e3, 3)
        made[f"plain_line_{name}p95_ms"] = round(report.percentile(plain, 0.95) * 1e3, 3)
        for kind, asked in (("", ours), ("traced_", traced)):
            ratios = latency_report.paired_ratio(asked, rounds)
            made |= {f"{kind}{name}{key}": value for key, value in ratios.items()}
    return made


MEASURES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "clients": measure_clients,
    "deadline": measure_deadlines,
    "scale": measure_scale,
    "cold": measure_cold,
    "off": measure_off,
    "beside": measure_beside,
}
