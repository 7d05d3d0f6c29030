"""How well memories are found: a dialogue data set through a real server process, turn-level evidence recall.

    python -m tests.bench.quality                                  LoCoMo, all questions
    python -m tests.bench.quality --quick                          seconds; judges nothing
    python -m tests.bench.quality --layout jsonl DIR               any set in that layout
    python -m tests.bench.quality --target HOST:PORT --key lm_...  on a server that runs already

R@5, R@10, hit@1 and MRR (ranks to 10) come from Retrieve at default settings. R@20 and R@50 come from a second, deep pass
(50 memories, 100 candidates, a long deadline); `--no-deep` leaves it out. One user per conversation; what was written is
found by its memory id. Latency is of the default pass, one client, one question at a time.

`--layout jsonl DIR` reads any dialogue set in the layout conversations.jsonl/questions.jsonl: one line
{"conversation_id","speakers","sessions":[{"session_id","started_at","turns":[{"turn_id","speaker","role","text"}]}]}, one
line {"question_id","conversation_id","question","answer","category","evidence":[turn_id]}. One user per conversation.

Writes target/bench/quality.json. Ends with 1 when a bar is missed, unless only a sample was asked.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightmem_client import Client, PermissionDeniedError, RetrieveResult, Turn
from rich.console import Console
from rich.progress import Progress

from tests.bench import report
from tests.bench.datasets import Conversation, digest, take_quick, take_sample
from tests.bench.options import (
    ROOT,
    add_server,
    make_parser,
    open_bars,
    open_server,
    parse_options,
    read_conversations,
)

RESULT_FILE = ROOT / "target" / "bench" / "quality.json"

QUICK_QUESTIONS = 8
DEEP_MEMORIES = 50
DEEP_CANDIDATES = 100
DEEP_TOKENS = 32_768
DEEP_DEADLINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Told:
    """A conversation that the server holds: under which user, and which memory is which turn."""

    conversation: Conversation
    user_id: str
    turn_of_memory: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    options = _parse(arguments)
    conversations = read_conversations(options)
    if isinstance(conversations, int):
        return conversations
    if options.quick:
        conversations = take_quick(conversations, QUICK_QUESTIONS)
    elif options.sample is not None:
        conversations = take_sample(conversations, options.sample, seed=options.seed)
    is_judged = not options.quick and options.sample is None

    with (
        open_server(options) as (target, key),
        Client(target, api_key=key, timeout_seconds=120) as client,
        open_bars() as bars,
    ):
        client.wait_ready()
        told, turns_per_second = tell(client, conversations, bars)
        outcomes, first = _ask(client, told, bars, is_deep=not options.no_deep)
        settings = _settings(options, client, conversations, first, turns_per_second)

    made = report.figures(outcomes)
    result: dict[str, Any] = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": settings,
        "figures": made,
        "targets": report.targets(made) if is_judged else {},
    }
    for path in (RESULT_FILE, options.json):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    report.print_tables(Console(width=None if sys.stdout.isatty() else 120), result)
    return 0 if all(target["ok"] for target in result["targets"].values()) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_server(parser)
    parser.add_argument("--sample", type=int, metavar="N", help="only N questions; judges nothing")
    parser.add_argument("--seed", type=int, default=0, help="of --sample; default: 0")
    parser.add_argument("--no-deep", action="store_true", help="without R@20 and R@50")
    return parse_options(parser, arguments)


def tell(client: Client, conversations: Sequence[Conversation], bars: Progress) -> tuple[list[Told], float]:
    """Streams every conversation, turn by turn. Returns what the server holds, and turns per second."""
    run_id = uuid.uuid4().hex[:8]  # a server that runs already may hold an earlier run
    total = sum(1 for conversation in conversations for _ in conversation.turns)
    task = bars.add_task("telling", total=total)
    started = time.perf_counter()
    told = []
    for conversation in conversations:
        user_id = f"bench-{run_id}-{conversation.conversation_id}"
        turn_of_memory = {}
        for session in conversation.sessions:
            with client.open_writer(user_id=user_id, session_id=session.session_id) as writer:
                sent = [
                    (turn, writer.send(Turn(turn.text, turn.speaker, turn.role, turn.occurred_at)))
                    for turn in session.turns
                ]
                for turn, pending in sent:
                    turn_of_memory[pending.result().memory_ids[0]] = turn.turn_id
                    bars.advance(task)
        told.append(Told(conversation, user_id, turn_of_memory))
    return told, total / (time.perf_counter() - started)


def _ask(
    client: Client, told: Sequence[Told], bars: Progress, *, is_deep: bool
) -> tuple[list[report.Outcome], RetrieveResult]:
    """Asks every question at default settings, then all of them again deep. Returns also the first answer."""
    asked = [(one, question) for one in told for question in one.conversation.questions]
    one, question = asked[0]
    first = client.retrieve(
        question.text, user_id=one.user_id, asked_at=one.conversation.asked_at
    )  # warms up, uncounted
    answers = []
    task = bars.add_task("asking", total=len(asked))
    for one, question in asked:
        started = time.perf_counter()
        answer = client.retrieve(question.text, user_id=one.user_id, asked_at=one.conversation.asked_at)
        answers.append((answer, time.perf_counter() - started))
        bars.advance(task)
    deep: list[tuple[str, ...] | None] = [None] * len(asked)
    if is_deep:
        task = bars.add_task("asking deep", total=len(asked))
        for i, (one, question) in enumerate(asked):
            deep[i] = ranking_of(
                one,
                client.retrieve(
                    question.text,
                    user_id=one.user_id,
                    asked_at=one.conversation.asked_at,
                    max_memories=DEEP_MEMORIES,
                    max_candidates=DEEP_CANDIDATES,
                    max_tokens=DEEP_TOKENS,
                    deadline_seconds=DEEP_DEADLINE_SECONDS,
                ),
            )
            bars.advance(task)
    outcomes = [
        report.Outcome(
            question=question,
            ranking=ranking_of(one, answer),
            deep_ranking=deep_ranking,
            elapsed_seconds=elapsed_seconds,
            server_seconds=answer.trace.elapsed_seconds,
            stage_seconds={stage.name: stage.elapsed_seconds for stage in answer.trace.stages},
            is_cut_by_deadline=answer.trace.is_cut_by_deadline,
        )
        for (one, question), (answer, elapsed_seconds), deep_ranking in zip(asked, answers, deep, strict=True)
    ]
    return outcomes, first


def ranking_of(told: Told, answer: RetrieveResult) -> tuple[str, ...]:
    """Turn ids in the order of the answer."""
    return tuple(told.turn_of_memory.get(hit.memory.id, "") for hit in answer.memories)


def _settings(
    options: argparse.Namespace,
    client: Client,
    conversations: Sequence[Conversation],
    first: RetrieveResult,
    turns_per_second: float,
) -> dict[str, Any]:
    """What the figures were measured with."""
    budget = first.trace.plan.budget
    try:
        stats = client.stats()
        models = {model.role: model.identity for model in stats.models}
        version = stats.server_version
    except PermissionDeniedError:  # the key of a server that runs already need not be an admin's
        models, version = {}, ""
    return {
        "data": options.data.name,
        "data_sha256": digest(options.data),
        "layout": options.layout,
        "quick": options.quick,
        "sample": options.sample,
        "seed": options.seed,
        "deep": not options.no_deep,
        "conversations": len(conversations),
        "turns": sum(1 for conversation in conversations for _ in conversation.turns),
        "turns_per_second": round(turns_per_second, 1),
        "max_memories": budget.max_memories,
        "max_candidates": budget.max_candidates,
        "max_tokens": budget.max_tokens,
        "deadline_ms": None if budget.deadline_seconds is None else round(budget.deadline_seconds * 1e3),
        "selector_mode": first.trace.plan.selector_mode.name,
        "models": models,
        "server_version": version,
    }


if __name__ == "__main__":
    sys.exit(main())
