"""A dialogue set that was told to a store and consolidated, in a folder that outlives this process: the Writer takes seconds
for a window, so a bench that was interrupted goes on where it stopped, by the same durable jobs and steps as a server.

What became of every proposal is kept beside the store, for reading: a run itself forgets its steps when it ends.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from rich.progress import Progress

from lightmem_server.config import load
from lightmem_server.core import Engine
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation import outcomes
from lightmem_server.pipeline.consolidation.consolidate import StagedConsolidator
from lightmem_server.pipeline.consolidation.model import WindowOutcome
from lightmem_server.pipeline.consolidation.progress import ProgressBoard
from lightmem_server.pipeline.consolidation.proposals import PROMPT as FACTS_PROMPT
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt
from lightmem_server.pipeline.consolidation.run import JOB_KIND, WATERMARK, Consolidator, RunHandle
from lightmem_server.pipeline.consolidation.summaries import PROMPT as SUMMARY_PROMPT
from lightmem_server.pipeline.consolidation.worker import Worker, WorkerPolicy
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.pipeline.write import WriteBatch, Writing
from lightmem_server.slm.embedder import load_embedder
from lightmem_server.slm.prompt import load_prompt
from lightmem_server.slm.protocols import TokenCounter, Writer
from lightmem_server.slm.selector import load_selector
from lightmem_server.slm.time_window import to_micros
from lightmem_server.slm.writer import load_writer
from lightmem_server.store.protocol import Change, JobRecord
from lightmem_server.store.run_protocol import RunRecord, RunState
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Memory as MemoryRecord
from lightmem_server.types import MemoryFilter, Partition, Role, Turn
from tests.bench.datasets import Conversation, Session
from tests.bench.memo import Memory, RememberingEmbedder, RememberingSelector, RememberingWriter

WRITERS: Mapping[str, str] = {
    "standard": "qwen2.5-coder-1.5b-instruct",
    "small": "qwen2.5-coder-0.5b-instruct",
    "lite": "",
}
EMBEDDING = "bench"
TURN_KEY = "turn"
"""Metadata of a stored turn: its id in the data."""
PAGE = 500
AT_ONCE = 128
"""Texts that the Writer is asked for together: among so many it finds enough of one length."""
BATCH_TOKENS = 5400
"""The most that pays, see load_writer: a bench may take 7 GB."""
OUTCOMES_FILE, MEMO_FILE = "outcomes.jsonl", "remembered.sqlite"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of one window of a conversation."""

    conversation_id: str
    outcome: WindowOutcome


class RecordedOutcomes:
    """The outcomes of all windows, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[tuple[str, str], str] = {}
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                item = json.loads(line)
                self._lines[item["conversation"], item["window"]] = item["outcome"]

    def add(self, conversation_id: str, window: str, outcome: str) -> None:
        """Keep an outcome; the same again changes nothing."""
        if self._lines.get((conversation_id, window)) == outcome:
            return
        self._lines[conversation_id, window] = outcome
        with self._path.open("a", encoding="utf-8") as file:
            item = {"conversation": conversation_id, "window": window, "outcome": outcome}
            file.write(json.dumps(item) + "\n")

    def __len__(self) -> int:
        return len(self._lines)

    def read(self) -> list[Recorded]:
        """All of them, in the order in which they came."""
        return [
            Recorded(conversation_id, outcomes.read_outcome(outcome))
            for (conversation_id, _), outcome in self._lines.items()
        ]


class _RecordingHandle:
    """A RunHandle that records what windows gave."""

    def __init__(self, run: RunHandle, recorded: RecordedOutcomes, note: Callable[[str, int, int], None]) -> None:
        self._run = run
        self._recorded = recorded
        self._note = note
        self.run_id, self.partition, self.trigger = run.run_id, run.partition, run.trigger
        self.from_version, self.to_version = run.from_version, run.to_version
        self.load_step, self.spend, self.commit = run.load_step, run.spend, run.commit

    async def save_step(self, stage: str, key: str, data: str, *, memory_ids: Sequence[object]) -> bool:
        """See RunHandle."""
        if stage == "facts":
            self._recorded.add(self.partition.user_id, key, data)
        return await self._run.save_step(stage, key, data, memory_ids=memory_ids)  # type: ignore[arg-type]

    async def report(self, stage: str, *, done: int, total: int, kept: int, rejected: Mapping[str, int]) -> None:
        """See RunHandle."""
        self._note(stage, done, total)
        await self._run.report(stage, done=done, total=total, kept=kept, rejected=rejected)


class _RecordingConsolidator:
    """A Consolidator whose outcomes are recorded."""

    def __init__(
        self, consolidator: Consolidator, recorded: RecordedOutcomes, note: Callable[[str, int, int], None]
    ) -> None:
        self._consolidator = consolidator
        self._recorded = recorded
        self._note = note

    @property
    def model(self) -> str:
        """See Consolidator."""
        return self._consolidator.model

    @property
    def prompt(self) -> str:
        """See Consolidator."""
        return self._consolidator.prompt

    async def run(self, run: RunHandle) -> None:
        """See Consolidator."""
        await self._consolidator.run(_RecordingHandle(run, self._recorded, self._note))


class Log:
    """A line now and then where there is no terminal to draw a bar on: hours pass in a file."""

    def __init__(self, bars: Progress, *, every_seconds: float = 60.0) -> None:
        self._bars = bars
        self._every_seconds = every_seconds
        self._last = -math.inf

    def say(self, line: str) -> None:
        """Print a line, unless one was printed lately."""
        now = time.monotonic()
        if self._bars.console.is_terminal or now - self._last < self._every_seconds:
            return
        self._last = now
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


class Consolidated:
    """The store, the pipeline over it, and what was recorded."""

    def __init__(
        self,
        store: SqliteStore,
        retrieving: Callable[[Tuning], Retrieving],
        recorded: RecordedOutcomes,
        tokens: TokenCounter,
    ) -> None:
        """`tokens` counts what is packed."""
        self.store = store
        self.retrieving = retrieving
        self.recorded = recorded
        self.tokens = tokens

    async def records(self, conversation_id: str) -> list[MemoryRecord]:
        """See read_records."""
        return await read_records(self.store, conversation_id)

    async def runs(self, conversation_id: str) -> list[RunRecord]:
        """The runs over a conversation, newest first."""
        return await self.store.list_runs(partition_of(conversation_id), limit=100)

    async def is_done(self, conversation_id: str) -> bool:
        """Whether nothing is left to consolidate."""
        return _has_ended(await self.runs(conversation_id))


async def read_records(store: SqliteStore, conversation_id: str) -> list[MemoryRecord]:
    """All memories of a conversation, archived ones included, in order."""
    found, before = list[MemoryRecord](), None
    while True:
        page = await store.list_page(
            partition_of(conversation_id),
            MemoryFilter(include_archived=True),
            limit=PAGE,
            before_order=before,
            now=Clock().now(),
        )
        found += page.memories
        before = page.next_order
        if before is None:
            return found[::-1]


def _has_ended(runs: Sequence[RunRecord]) -> bool:
    return any(run.state is RunState.DONE for run in runs)


def partition_of(conversation_id: str) -> Partition:
    """Each conversation is a user's."""
    return Partition("default", conversation_id)


def sampled_sessions(conversation: Conversation, count: int, *, seed: int) -> frozenset[str]:
    """The sessions that are consolidated: `count` of them drawn without regard to anything, a larger count with those of a
    smaller one; 0: all."""
    names = [session.session_id for session in conversation.sessions]
    random.Random(f"{seed}/{conversation.conversation_id}").shuffle(names)
    return frozenset(names[: count or None])


@asynccontextmanager
async def consolidated(
    conversations: Sequence[Conversation],
    folder: Path,
    bars: Progress,
    *,
    writer: str,
    threads: int,
    sessions: int,
    seed: int,
    is_complete: bool,
) -> AsyncIterator[Consolidated]:
    """The conversations told and consolidated, one user each.

    Args:
        folder: Where everything is kept; the next call with the same goes on there.
        writer: A profile of WRITERS.
        sessions: How many of each conversation are consolidated; all are told. 0: all.
        is_complete: False: consolidate nothing more, show what there is.
    """
    settings, clock, memory = load(), Clock(), Memory(folder / MEMO_FILE)
    real_embedder = load_embedder(settings.models_dir, settings.embedder)
    real_selector = load_selector(settings.models_dir, settings.selector)
    real_gate = load_selector(settings.models_dir, settings.gate_selector)
    name = WRITERS[writer]
    real_writer = (
        load_writer(
            settings.models_dir, name, threads=1, batches=threads, batch_tokens=BATCH_TOKENS, max_queued=AT_ONCE
        )
        if name and is_complete
        else None
    )
    embedder, selector = RememberingEmbedder(real_embedder, memory), RememberingSelector(real_selector, memory)
    gate = RememberingSelector(real_gate, memory)
    recorded = RecordedOutcomes(folder / OUTCOMES_FILE)
    with ThreadPoolExecutor(2) as executor:
        store = SqliteStore(folder)
        await store.open()
        engine = Engine(
            dim=embedder.dim,
            view_names=VIEW_NAMES,
            budget_bytes=1 << 33,
            stm_turns=settings.stm_turns,
            stm_tokens=settings.stm_tokens,
        )
        residents = Residents(store, engine, executor, embedding=EMBEDDING)
        try:
            await _tell(conversations, Writing(store, residents, embedder, embedding=EMBEDDING, clock=clock), store, bars,
                        sessions=sessions, seed=seed)  # fmt: skip
            if is_complete:
                remembering: Writer | None = RememberingWriter(real_writer, memory) if real_writer else None
                staged = StagedConsolidator(
                    store,
                    embedder,
                    gate,
                    remembering,
                    embedding=EMBEDDING,
                    clock=clock,
                    facts_prompt=FactsPrompt.load(FACTS_PROMPT),
                    summary_prompt=load_prompt(SUMMARY_PROMPT),
                    zone=UTC,
                    at_once=AT_ONCE,
                )
                task = bars.add_task("consolidating", total=len(conversations))
                inner = bars.add_task("episodes", total=None)

                log, name_of = Log(bars), ""

                def note(stage: str, done: int, total: int) -> None:
                    bars.update(inner, description=stage, completed=done, total=total)
                    log.say(f"{name_of}: {stage} {done} of {total}; {len(recorded)} windows in all")

                for conversation in conversations:
                    name_of = conversation.conversation_id
                    await _consolidate(
                        conversation.conversation_id,
                        store,
                        residents,
                        _RecordingConsolidator(staged, recorded, note),
                        clock,
                    )
                    bars.advance(task)

            def retrieving(tuning: Tuning) -> Retrieving:
                counters = {"": embedder.tokens}
                return Retrieving(store, residents, embedder, selector, tokenizers=counters, clock=clock, tuning=tuning)

            yield Consolidated(store, retrieving, recorded, embedder.tokens)
        finally:
            await store.close()
            await real_embedder.close()
            await real_selector.close()
            await real_gate.close()
            if real_writer is not None:
                await real_writer.close()
            memory.close()


async def _tell(
    conversations: Sequence[Conversation],
    writing: Writing,
    store: SqliteStore,
    bars: Progress,
    *,
    sessions: int,
    seed: int,
) -> None:
    """Tell the sessions that only are turns, mark them as done, and then those that are consolidated. Repeated, it changes
    nothing: every write has its request id."""
    task = bars.add_task("telling", total=sum(1 for conversation in conversations for _ in conversation.turns))
    for conversation in conversations:
        partition = partition_of(conversation.conversation_id)
        chosen = sampled_sessions(conversation, sessions, seed=seed)
        rest = [session for session in conversation.sessions if session.session_id not in chosen]
        for session in rest:
            await _tell_session(partition, session, writing)
            bars.advance(task, len(session.turns))
        if rest and not await store.watermark(partition, WATERMARK):
            version = (await store.changes_since(partition, None)).version
            await store.commit(Change(partition, watermarks={WATERMARK: version}))
        for session in conversation.sessions:
            if session.session_id in chosen:
                await _tell_session(partition, session, writing)
                bars.advance(task, len(session.turns))


async def _tell_session(partition: Partition, session: Session, writing: Writing) -> None:
    said = [
        Turn(turn.text, to_micros(turn.occurred_at), turn.speaker, Role(turn.role), {TURN_KEY: turn.turn_id})
        for turn in session.turns
    ]
    batch = WriteBatch(partition, said, session_id=session.session_id, request_id=f"told-{session.session_id}")
    async for _ in writing.write([batch]):
        pass


async def _consolidate(
    conversation_id: str, store: SqliteStore, residents: Residents, consolidator: Consolidator, clock: Clock
) -> None:
    """One user's run to its end, or nothing when it was done before."""
    partition = partition_of(conversation_id)
    policy = WorkerPolicy(seconds_per_hour=0, lease_seconds=5)
    worker = Worker(store, consolidator, ProgressBoard(), clock, policy, commit=residents.commit)
    if not _has_ended(await store.list_runs(partition, limit=100)):
        job = JobRecord(JOB_KIND, payload="request", not_before=clock.now(), revives=True)
        await store.commit(Change(partition, jobs=[job]))
    while (due := await store.next_job_at([JOB_KIND])) is not None:
        if not await worker.step():  # an interrupted run's lease has to lapse
            await asyncio.sleep(max(0.1, min(1.0, (due - clock.now()) / 1e6)))
