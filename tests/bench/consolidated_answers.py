"""What summaries and facts add to the answers of a small reader: the same questions, reader and tokens, with the turns alone
and with all that consolidation made.

The dialogues are those that `make bench-consolidate` has consolidated in a folder. What the reader answered to a prompt is
kept there, so that a run that was interrupted goes on where it stopped, and a change of the retrieval asks only what is new.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress

from lightmem_server.config import load
from lightmem_server.pipeline.retrieval import Budget
from lightmem_server.slm.protocols import Message, TokenCounter, Writer
from lightmem_server.slm.writer import load_writer
from tests.bench.consolidate_figures import ARMS, EVIDENCE_BUDGET, Reader, read_conversation
from tests.bench.consolidated import AT_ONCE, BATCH_TOKENS, Log, consolidated
from tests.bench.datasets import Conversation, Question, take_quick, take_stratified
from tests.bench.memo import Memory, RememberingWriter
from tests.bench.options import open_bars

ANSWERS_FILE = "answers.sqlite"

Ask = Callable[[str], Awaitable[str]]
"""From a prompt to an answer."""


async def read_consolidated(
    options: argparse.Namespace,
    conversations: Sequence[Conversation],
    *,
    writer: str,
    instructions: Sequence[Message],
    max_tokens: int,
    to_prompt: Callable[[Question, str], str],
) -> tuple[list[tuple[Question, dict[str, str], dict[str, str]]], str, TokenCounter]:
    """Ask the reader the drawn questions of the dialogues that are done, with each arm's context.

    Args:
        options: `consolidated`, the folder; `without`, dialogues that are left out; `questions`, `seed`, `quick`, `tokens`,
            `threads`.
        writer: The reader, a model that is installed.
        instructions: What precedes every prompt.
        max_tokens: Of an answer.
        to_prompt: From a question and a context to what the reader reads.

    Returns:
        (question, answers by arm, contexts by arm) for each; the reader's identity; the tokens that contexts are counted in.

    Raises:
        ModelError: The reader isn't installed, or failed.
    """
    folder: Path = options.consolidated
    settings, memory = load(), Memory(folder / ANSWERS_FILE)
    budget = replace(EVIDENCE_BUDGET, max_tokens=options.tokens)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(memory.close)
        bars = stack.enter_context(open_bars())
        reader = load_writer(
            settings.models_dir,
            writer,
            threads=1,
            batches=options.threads,
            batch_tokens=BATCH_TOKENS,
            max_queued=AT_ONCE,
        )
        stack.push_async_callback(reader.close)
        made = await stack.enter_async_context(
            consolidated(conversations, folder, bars, writer="lite", threads=1, sessions=0, seed=0, is_complete=False)
        )
        done = [one for one in conversations if await made.is_done(one.conversation_id)]
        done = [one for one in done if one.conversation_id not in options.without]
        drawn = take_quick(done, 2) if options.quick else take_stratified(done, options.questions, seed=options.seed)
        asked = [
            (question, await contexts_of(await read_conversation(conversation, made), question, budget))
            for conversation in drawn
            for question in conversation.questions
        ]
        answers = await answer_all(
            RememberingWriter(reader, memory),
            [to_prompt(question, context) for question, contexts in asked for context in contexts.values()],
            bars,
            instructions=instructions,
            max_tokens=max_tokens,
        )
        results = [
            (question, {arm: answers[to_prompt(question, context)] for arm, context in contexts.items()}, contexts)
            for question, contexts in asked
        ]
        return results, reader.identity, made.tokens


async def contexts_of(reader: Reader, question: Question, budget: Budget) -> dict[str, str]:
    """What is packed for a question, by arm."""
    return {arm: (await reader.select(question.text, budget, allowed)).packed_context for arm, allowed in ARMS.items()}


async def answer_all(
    writer: Writer, prompts: Sequence[str], bars: Progress, *, instructions: Sequence[Message], max_tokens: int
) -> dict[str, str]:
    """What the reader answers to each prompt, in one line. AT_ONCE of them wait together, by length: those of one length are
    read and answered together."""
    distinct = sorted(set(prompts), key=len)
    task, log, began = bars.add_task("answers", total=len(distinct)), Log(bars), time.monotonic()
    gate = asyncio.Semaphore(AT_ONCE)
    answers: dict[str, str] = {}

    async def answer(prompt: str) -> None:
        async with gate:
            written = await writer.generate(
                instructions, [Message("user", prompt)], max_tokens=max_tokens, stops=["\n"]
            )
        answers[prompt] = written.text
        bars.advance(task)
        left = (time.monotonic() - began) / len(answers) * (len(distinct) - len(answers))
        log.say(f"{len(answers)} of {len(distinct)} prompts; about {left / 60:.0f} minutes left")

    async with asyncio.TaskGroup() as group:
        for prompt in distinct:
            group.create_task(answer(prompt))
    return answers
