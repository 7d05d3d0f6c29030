"""The pipeline in this process, on real models that remember (memo.py): another constant over a whole data set takes seconds.

There is no deadline here and nothing is timed: `make bench-quality` and `make bench-latency` go through a server.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from lightmem_server.config import load
from lightmem_server.core import Engine
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.retrieval import Budget, RetrieveQuery, Selected, SelectorMode, Trace
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.pipeline.write import WriteBatch, Writing
from lightmem_server.slm.embedder import load_embedder
from lightmem_server.slm.selector import load_selector
from lightmem_server.slm.time_window import to_micros
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Partition, Role, Turn
from tests.bench.datasets import Conversation, Question
from tests.bench.memo import Memory, RememberingEmbedder, RememberingSelector
from tests.bench.options import ROOT

MEMORY_FILE = ROOT / "target" / "bench" / "remembered.sqlite"
TURNS_PER_WRITE = 100
BUDGET = Budget(max_memories=10, max_candidates=32, max_tokens=32_768, deadline_seconds=1e9)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found for one question.

    Attributes:
        ranking: Turn ids, best first.
    """

    conversation_id: str
    question: Question
    ranking: Sequence[str]
    trace: Trace


class Bench:
    """The pipeline over conversations that it was told."""

    def __init__(
        self,
        retrieving: Callable[[Tuning], Retrieving],
        residents: Residents,
        conversations: Sequence[Conversation],
        turns: Mapping[str, str],
    ) -> None:
        """`turns` maps memory ids to turn ids."""
        self._retrieving = retrieving
        self._residents = residents
        self._conversations = conversations
        self.turns = turns

    async def ask(
        self, tuning: Tuning, mode: SelectorMode, bars: Progress, name: str, *, is_noting_access: bool = False
    ) -> AsyncIterator[Answer]:
        """Ask every question.

        Args:
            is_noting_access: Note which memories were returned, as a server does, so that they gain heat; what follows
                finds them warm.
        """
        retrieving = self._retrieving(tuning)
        task = bars.add_task(name, total=sum(len(conversation.questions) for conversation in self._conversations))
        for conversation in self._conversations:
            partition = Partition("default", conversation.conversation_id)
            for question in conversation.questions:
                query = RetrieveQuery(
                    partition,
                    question.text,
                    BUDGET,
                    asked_at=to_micros(conversation.asked_at),
                    arrived_at=time.monotonic(),
                    selector_mode=mode,
                )
                async for part in retrieving.retrieve(query):
                    if isinstance(part, Selected):
                        returned = [candidate.memory_id for candidate in part.candidates]
                    elif isinstance(part, Trace):
                        trace = part
                if is_noting_access:
                    await self._residents.touch(partition, returned, trace.search.now)
                ranking = [self.turns.get(str(memory_id), "") for memory_id in returned]
                yield Answer(conversation.conversation_id, question, ranking, trace)
                bars.advance(task)


@asynccontextmanager
async def told(
    conversations: Sequence[Conversation], memory: Memory, bars: Progress, *, selector: str | None = None
) -> AsyncIterator[Bench]:
    """A bench whose pipeline has been told the conversations, one user each, with a Selector by its name or the default."""
    settings, clock = load(), Clock()
    real_embedder = load_embedder(settings.models_dir, settings.embedder)
    real_selector = load_selector(settings.models_dir, selector or settings.selector)
    embedder, judge = RememberingEmbedder(real_embedder, memory), RememberingSelector(real_selector, memory)
    with tempfile.TemporaryDirectory(prefix="lightmem-bench-") as folder, ThreadPoolExecutor(2) as executor:
        store = SqliteStore(Path(folder))
        await store.open()
        engine = Engine(
            dim=embedder.dim,
            view_names=VIEW_NAMES,
            budget_bytes=1 << 33,
            stm_turns=settings.stm_turns,
            stm_tokens=settings.stm_tokens,
        )
        residents = Residents(store, engine, executor, embedding="bench")
        writing = Writing(store, residents, embedder, embedding="bench", clock=clock)
        turns: dict[str, str] = {}
        task = bars.add_task("telling", total=sum(1 for conversation in conversations for _ in conversation.turns))
        for conversation in conversations:
            partition = Partition("default", conversation.conversation_id)
            for session in conversation.sessions:
                said = [
                    Turn(turn.text, to_micros(turn.occurred_at), turn.speaker, Role(turn.role))
                    for turn in session.turns
                ]
                batches = [
                    WriteBatch(partition, said[start : start + TURNS_PER_WRITE], session_id=session.session_id)
                    for start in range(0, len(said), TURNS_PER_WRITE)
                ]
                written = [id_ async for ack in writing.write(batches) for id_ in ack.memory_ids]
                turns |= {str(id_): turn.turn_id for id_, turn in zip(written, session.turns, strict=True)}
                bars.advance(task, len(said))

        def retrieving(tuning: Tuning) -> Retrieving:
            counters = {"": embedder.tokens}
            return Retrieving(store, residents, embedder, judge, tokenizers=counters, clock=clock, tuning=tuning)

        try:
            yield Bench(retrieving, residents, conversations, turns)
        finally:
            await store.close()
            await real_embedder.close()
            await real_selector.close()
