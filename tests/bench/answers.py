"""How well a small model answers from what LightMem gives it: LoCoMo's questions, one reader, four contexts.

    python -m tests.bench.answers                                120 questions, the small Writer
    python -m tests.bench.answers --writer standard --questions 40
    python -m tests.bench.answers --consolidated FOLDER --tokens 512   what summaries and facts add to the turns
    python -m tests.bench.answers --quick                        seconds; checks that the bench works

Contexts, each at most `--tokens` tokens of the embedder: none; the last turns of the conversation; the `--memories` turns
nearest to the question by the same embedder, in NumPy; what Retrieve of a real server packs, with as many memories. All
have the same line per turn. With --consolidated, the folder of `make bench-consolidate`, there are two, in this process: what
is packed of the turns alone, and of all that there is (consolidated_answers.py); --without leaves out dialogues that something
was chosen on. The reader, its prompt, and the questions are the same for all. Questions are drawn by
category; the score is LoCoMo's official F1 (f1.py). Intervals are 95 %, over questions; differences are paired.

The deadline of Retrieve is long: this bench judges answers, not time. Writes target/bench/answers.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lightmem_client import Client, Turn
from rich.console import Console
from rich.table import Table

from lightmem_server.config import load
from lightmem_server.errors import ModelError
from lightmem_server.slm.embedder import load_embedder
from lightmem_server.slm.manifest import load_manifest
from lightmem_server.slm.protocols import Embedder, Message, TokenCounter, Writer
from lightmem_server.slm.writer import load_writer
from tests.bench import report
from tests.bench.consolidate_figures import ARMS, EVIDENCE_BUDGET
from tests.bench.consolidated_answers import read_consolidated
from tests.bench.datasets import (
    Conversation,
    DialogueTurn,
    Question,
    digest,
    take_quick,
    take_stratified,
)
from tests.bench.f1 import bootstrap, score
from tests.bench.options import ROOT, add_server, make_parser, open_bars, open_server, parse_options, read_conversations

RESULT_FILE = ROOT / "target" / "bench" / "answers.json"

NONE, RECENT, PLAIN, LIGHTMEM = "no memory", "recent turns", "plain top-k", "LightMem"
TURNS_ALONE = "LightMem, turns alone"

QUICK_QUESTIONS = 2
ANSWER_TOKENS = 32
DEADLINE_SECONDS = 5.0

INSTRUCTIONS = [
    Message(
        "system",
        "You answer questions about a conversation from notes of it. Answer with a few words, taken from the notes where "
        "you can, not with a sentence. Give dates as day, month and year. If the notes don't tell, answer: Not mentioned.",
    ),
    Message(
        "user",
        "Notes:\n2021-03-06 10:00 Ida: My brother and I adopted a kitten yesterday.\n"
        "2021-03-09 18:30 Omar: I finally signed up for the pottery course.\n\nQuestion: When did Ida get a kitten?",
    ),
    Message("assistant", "5 March 2021"),
    Message(
        "user",
        "Notes:\n2021-03-09 18:30 Omar: I finally signed up for the pottery course.\n\n"
        "Question: Which instrument does Omar play?",
    ),
    Message("assistant", "Not mentioned"),
]
"""Of the reader; written for this bench, about nobody in the data."""


@dataclass(slots=True)
class Answered:
    """What the reader said to one question, by arm."""

    question: Question
    answers: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    context_tokens: dict[str, int] = field(default_factory=dict)

    def add(self, arm: str, answer: str, context: str, counter: TokenCounter) -> None:
        """Note and score an arm's answer."""
        self.answers[arm] = answer
        self.scores[arm] = score(answer, self.question.answer, self.question.category)
        self.context_tokens[arm] = counter.count(context)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    options = _parse(arguments)
    conversations = read_conversations(options)
    if isinstance(conversations, int):
        return conversations
    if options.consolidated is None and options.quick:
        conversations = take_quick(conversations, QUICK_QUESTIONS)
    elif options.consolidated is None:
        conversations = take_stratified(conversations, options.questions, seed=options.seed)
    run = _run if options.consolidated is None else _run_consolidated
    try:
        answered, writer = asyncio.run(run(options, conversations))
    except ModelError as error:
        print(error.message, file=sys.stderr)
        return 2
    result: dict[str, Any] = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {
            "data": options.data.name,
            "data_sha256": digest(options.data),
            "quick": options.quick,
            "questions": len(answered),
            "seed": options.seed,
            "writer": writer,
            "max_tokens": options.tokens,
            "max_memories": options.memories if options.consolidated is None else EVIDENCE_BUDGET.max_memories,
            "consolidated": str(options.consolidated or ""),
            "without": options.without,
        },
        "figures": figures(answered, seed=options.seed),
        "targets": {},
    }
    for path in (RESULT_FILE, options.json):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print_tables(Console(width=None if sys.stdout.isatty() else 120), result["figures"])
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_server(parser)
    parser.add_argument("--writer", default="small", help="the reader: a profile or a model; default: small")
    parser.add_argument("--questions", type=int, default=120, metavar="N", help="drawn by category; default: 120")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--tokens", type=int, default=1024, help="of a context; default: 1024")
    parser.add_argument(
        "--consolidated", type=Path, metavar="FOLDER", help="turns alone beside turns, summaries and facts"
    )
    parser.add_argument("--without", nargs="+", default=[], metavar="ID", help="dialogues that are left out, with it")
    parser.add_argument(
        "--threads", type=int, default=2, help="of the reader, with it, each with texts of its own; default: 2"
    )
    parser.add_argument("--memories", type=int, default=10, help="of plain top-k and LightMem; default: 10")
    return parse_options(parser, arguments)


def _find_reader(options: argparse.Namespace) -> str:
    name = load_manifest().find_writer(options.writer)
    if name is None:
        raise ModelError(f"profile {options.writer} has no Writer")
    return name


async def _run_consolidated(
    options: argparse.Namespace, conversations: Sequence[Conversation]
) -> tuple[list[Answered], str]:
    read, identity, tokens = await read_consolidated(
        options,
        conversations,
        writer=_find_reader(options),
        instructions=INSTRUCTIONS,
        max_tokens=ANSWER_TOKENS,
        to_prompt=to_prompt,
    )
    names = dict(zip(ARMS, (TURNS_ALONE, LIGHTMEM), strict=True))
    answered = []
    for question, answers, contexts in read:
        made = Answered(question)
        for arm, name in names.items():
            made.add(name, answers[arm], contexts[arm], tokens)
        answered.append(made)
    return answered, identity


async def _run(options: argparse.Namespace, conversations: Sequence[Conversation]) -> tuple[list[Answered], str]:
    settings, name = load(), _find_reader(options)
    answered: list[Answered] = []
    async with contextlib.AsyncExitStack() as stack:
        writer = load_writer(settings.models_dir, name, threads=max(1, report.machine()["cores"]))
        stack.push_async_callback(writer.close)
        embedder = load_embedder(settings.models_dir, settings.embedder)
        stack.push_async_callback(embedder.close)
        target, key = stack.enter_context(open_server(options))
        client = stack.enter_context(Client(target, api_key=key, timeout_seconds=120))
        client.wait_ready()
        bars = stack.enter_context(open_bars())
        asking = bars.add_task("answers", total=sum(len(one.questions) for one in conversations))
        telling = bars.add_task("telling", total=sum(1 for one in conversations for _ in one.turns))
        for conversation in conversations:
            arms = Arms(conversation, embedder, client, max_tokens=options.tokens, max_memories=options.memories)
            await arms.prepare()
            bars.advance(telling, sum(1 for _ in conversation.turns))
            contexts = [await arms.contexts(question) for question in conversation.questions]
            for one, question in zip(contexts, conversation.questions, strict=True):
                answered.append(await answer(writer, question, one, embedder.tokens))
                bars.advance(asking)
        return answered, writer.identity


class Arms:
    """What each arm knows of one conversation."""

    def __init__(
        self, conversation: Conversation, embedder: Embedder, client: Client, *, max_tokens: int, max_memories: int
    ) -> None:
        self._conversation = conversation
        self._turns = list(conversation.turns)
        self._embedder = embedder
        self._client = client
        self._max_tokens = max_tokens
        self._max_memories = max_memories
        self._vectors = np.empty((0, embedder.dim), np.float32)
        self._user_id = f"answers-{conversation.conversation_id}"

    async def prepare(self) -> None:
        """Tell the server, and embed for the plain arm."""
        for session in self._conversation.sessions:
            with self._client.open_writer(user_id=self._user_id, session_id=session.session_id) as writer:
                sent = [
                    writer.send(Turn(turn.text, turn.speaker, turn.role, turn.occurred_at)) for turn in session.turns
                ]
                for pending in sent:
                    await asyncio.to_thread(pending.result)
        self._vectors = await self._embedder.embed_passages([f"{turn.speaker}: {turn.text}" for turn in self._turns])

    async def contexts(self, question: Question) -> dict[str, str]:
        """The context of every arm."""
        similarity = self._vectors @ (await self._embedder.embed_queries([question.text]))[0]
        nearest = [self._turns[i] for i in np.argsort(-similarity, kind="stable")[: self._max_memories]]
        counter = self._embedder.tokens
        return {
            NONE: "",
            RECENT: fit(self._turns[::-1], counter, self._max_tokens, is_run=True),
            PLAIN: fit(nearest, counter, self._max_tokens),
            LIGHTMEM: await self.retrieve(question),
        }

    async def retrieve(self, question: Question) -> str:
        """What the server packs for a question."""
        answer = await asyncio.to_thread(
            self._client.retrieve,
            question.text,
            user_id=self._user_id,
            asked_at=self._conversation.asked_at,
            max_memories=self._max_memories,
            max_tokens=self._max_tokens,
            deadline_seconds=DEADLINE_SECONDS,
        )
        return answer.packed_context


def fit(turns: Sequence[DialogueTurn], counter: TokenCounter, max_tokens: int, *, is_run: bool = False) -> str:
    """The lines of turns, best first, that fit; in the order in which they were said.

    Args:
        is_run: End at the first that doesn't fit, rather than leave it out.
    """
    taken: list[DialogueTurn] = []
    tokens = 0
    for turn in turns:
        cost = counter.count(line(turn) + "\n")
        if tokens + cost <= max_tokens:
            taken.append(turn)
            tokens += cost
        elif is_run:
            break
    return "\n".join(line(turn) for turn in sorted(taken, key=lambda turn: turn.occurred_at))


def line(turn: DialogueTurn) -> str:
    """A turn as the server packs it."""
    return f"{turn.occurred_at:%Y-%m-%d %H:%M} {turn.speaker}: {' '.join(turn.text.split())}"


async def answer(writer: Writer, question: Question, contexts: dict[str, str], counter: TokenCounter) -> Answered:
    """Let the reader answer from every arm's context."""
    made = Answered(question)
    for arm, context in contexts.items():
        prompt = [Message("user", to_prompt(question, context))]
        written = await writer.generate(INSTRUCTIONS, prompt, max_tokens=ANSWER_TOKENS, stops=["\n"])
        made.add(arm, written.text, context, counter)
    return made


def to_prompt(question: Question, context: str) -> str:
    """What the reader reads behind its instructions."""
    return f"Notes:\n{context or '(none)'}\n\nQuestion: {question.text}"


def figures(answered: Sequence[Answered], *, seed: int = 0) -> dict[str, Any]:
    """Per arm the mean F1 with its interval, by category and without the fifth, and what LightMem has on the others."""
    categories = sorted({one.question.category for one in answered})
    made: dict[str, Any] = {"arms": {}, "lightmem_minus": {}}
    arms = list(answered[0].scores) if answered else []
    for arm in arms:
        scores = [one.scores[arm] for one in answered]
        made["arms"][arm] = {
            "f1": _interval(scores, seed),
            "categories_1_4": _mean([one.scores[arm] for one in answered if one.question.category != "5"]),
            **{
                f"category_{c}": _mean([o.scores[arm] for o in answered if o.question.category == c])
                for c in categories
            },
            "context_tokens": _mean([one.context_tokens[arm] for one in answered]),
        }
    for arm in arms:
        if arm == LIGHTMEM:
            continue
        made["lightmem_minus"][arm] = {
            "f1": _interval([one.scores[LIGHTMEM] - one.scores[arm] for one in answered], seed),
            "f1_categories_1_4": _interval(
                [o.scores[LIGHTMEM] - o.scores[arm] for o in answered if o.question.category != "5"], seed
            ),
        }
    made["questions"] = {c: sum(one.question.category == c for one in answered) for c in categories}
    return made


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _interval(values: Sequence[float], seed: int) -> dict[str, float | None]:
    if not values:
        return {"mean": None, "low": None, "high": None}
    low, high = bootstrap(values, seed=seed)
    return {"mean": _mean(values), "low": round(low, 4), "high": round(high, 4)}


def print_tables(console: Console, made: dict[str, Any]) -> None:
    """The figures for people."""
    categories = list(made["questions"])
    columns = [f"{c} (n={made['questions'][c]})" for c in categories]
    table = Table("context", "F1", "95 %", "1-4", *columns, "tokens", box=None, header_style="bold")
    for arm, values in made["arms"].items():
        table.add_row(
            arm,
            _show(values["f1"]["mean"]),
            _range(values["f1"]),
            _show(values["categories_1_4"]),
            *(_show(values[f"category_{category}"]) for category in categories),
            f"{values['context_tokens']:.0f}",
        )
    console.print(table)
    for arm, values in made["lightmem_minus"].items():
        all_, answerable = values["f1"], values["f1_categories_1_4"]
        console.print(
            f"LightMem - {arm}: {_show(all_['mean'])} ({_range(all_)}); "
            f"categories 1-4: {_show(answerable['mean'])} ({_range(answerable)})",
            highlight=False,
        )


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _range(interval: dict[str, float | None]) -> str:
    return f"{_show(interval['low'])} to {_show(interval['high'])}"


if __name__ == "__main__":
    sys.exit(main())
