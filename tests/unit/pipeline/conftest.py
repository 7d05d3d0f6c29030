"""The pipeline on a real store and a real engine, with the public fakes of the models and a clock that tests move."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lightmem_server.core import Engine
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.edit import Editing
from lightmem_server.pipeline.graphs import GraphBuilder
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.retrieval import Budget, Part, RetrieveQuery, Selected, Trace
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.pipeline.write import WriteAck, WriteBatch, Writing
from lightmem_server.slm.fakes import HashEmbedder, OverlapSelector
from lightmem_server.store.protocol import Store
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Partition, Turn

DIM = 64
ANA = Partition("default", "ana")


@dataclass
class Pipeline:
    """The parts, and short forms of what tests do with them."""

    store: Store
    engine: Engine
    residents: Residents
    graphs: GraphBuilder
    writing: Writing
    retrieving: Retrieving
    editing: Editing
    budget: Budget = field(default_factory=lambda: Budget(10, 32, 1000, 5.0))

    async def write(
        self, *turns: Turn, request_id: str = "", session_id: str = "s", partition: Partition = ANA
    ) -> WriteAck:
        """Write one batch."""
        batch = WriteBatch(partition, turns, session_id=session_id, request_id=request_id)
        (ack,) = [ack async for ack in self.writing.write([batch])]
        return ack

    async def retrieve(self, query: str, **fields: object) -> list[Part]:
        """All parts of an answer."""
        given = {"budget": self.budget, "asked_at": 0, "arrived_at": time.monotonic(), **fields}
        asked = RetrieveQuery(ANA, query, **given)  # type: ignore[arg-type]
        return [part async for part in self.retrieving.retrieve(asked)]

    async def texts(self, query: str, **fields: object) -> list[str]:
        """The texts that a retrieval returns, best first."""
        (selected,) = [part for part in await self.retrieve(query, **fields) if isinstance(part, Selected)]
        return [candidate.memory.text for candidate in selected.candidates if candidate.memory]

    async def trace(self, query: str, **fields: object) -> Trace:
        """The trace of a retrieval."""
        (trace,) = [part for part in await self.retrieve(query, **fields) if isinstance(part, Trace)]
        return trace


@pytest.fixture
def ann_rows() -> int:
    """Memories from which on a partition gets graphs; 0: none does."""
    return 0


@pytest.fixture
async def pipeline(tmp_path: Path, ann_rows: int) -> AsyncIterator[Pipeline]:
    store = SqliteStore(tmp_path / "data")
    await store.open()
    embedder, selector, clock = HashEmbedder(DIM), OverlapSelector(), Clock()
    engine = Engine(
        dim=DIM, view_names=VIEW_NAMES, budget_bytes=1 << 26, stm_turns=4, stm_tokens=1000, ann_rows=ann_rows
    )
    with ThreadPoolExecutor(2) as executor:
        graphs = GraphBuilder(engine)
        residents = Residents(store, engine, executor, embedding="hash")
        residents.listeners.append(graphs.notice)
        yield Pipeline(
            store,
            engine,
            residents,
            graphs,
            Writing(store, residents, embedder, embedding="hash", clock=clock),
            Retrieving(store, residents, embedder, selector, tokenizers={"": embedder.tokens}, clock=clock),
            Editing(store, residents, embedder, embedding="hash"),
        )
    await store.close()
