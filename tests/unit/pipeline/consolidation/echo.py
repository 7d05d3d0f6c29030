"""A small Consolidator of the tests: each turn is a window, and gives one fact, its text in capitals."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from lightmem_server.pipeline.consolidation.run import RunHandle
from lightmem_server.store.protocol import Change, Store
from lightmem_server.types import Kind, Memory, Partition, Tier


async def nothing(moment: str, text: str) -> None:
    """Happens at each moment by default."""


@dataclass
class EchoConsolidator:
    """Keeps what it does: each window has the moments "write", "saved", "committed", and the run "end".

    Attributes:
        at: Awaited at each moment, with the window's text; may raise, wait, or kill the process.
        seconds: Model time of each window.
        written: The texts that the "model" was asked for.
    """

    store: Store
    at: Callable[[str, str], Awaitable[None]] = nothing
    seconds: float = 0.0
    written: list[str] = field(default_factory=list)
    model: str = "echo"
    prompt: str = "1"

    async def run(self, run: RunHandle) -> None:
        """See Consolidator."""
        rows = (await self.store.changes_since(run.partition, run.from_version)).rows
        turns = [row.memory for row in rows if row.memory.kind is Kind.TURN]
        for number, turn in enumerate(turns, start=1):
            key = turn.id.hex
            text = await run.load_step("facts", key)
            if text is None:
                await self.at("write", turn.text)
                self.written.append(turn.text)
                text = turn.text.upper()
                if not await run.save_step("facts", key, text, memory_ids=[turn.id]):
                    continue
                await self.at("saved", turn.text)
                await run.spend(seconds=self.seconds, tokens=3)
            fact = Memory(
                uuid.uuid4(), Tier.LTM, Kind.FACT, text, turn.occurred_at, turn.occurred_at, evidence_ids=(turn.id,)
            )
            await run.commit(
                Change(run.partition, puts=[fact], reason="add"), stage="integrate", key=key, watermark=None
            )
            await self.at("committed", turn.text)
            await run.report("integrate", done=number, total=len(turns), kept=number, rejected={"question": 1})
        await self.at("end", "")


async def facts(store: Store, partition: Partition) -> list[str]:
    """The texts of all facts, in order."""
    rows = (await store.changes_since(partition, None)).rows
    return [row.memory.text for row in rows if row.memory.kind is Kind.FACT]
