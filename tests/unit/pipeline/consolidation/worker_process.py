"""A process with a store and a worker: `python -m tests.unit.pipeline.consolidation.worker_process DIR NOW [MOMENT TEXT]`.

It does the jobs that are due at NOW (microseconds), and prints each moment. At the one that is named it prints "here" and waits
to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.progress import ProgressBoard
from lightmem_server.pipeline.consolidation.worker import Worker, WorkerPolicy
from lightmem_server.store.sqlite import SqliteStore
from tests.unit.pipeline.consolidation.echo import EchoConsolidator


async def _main(data_dir: Path, now: int, stop_at: tuple[str, ...]) -> None:
    async def at(moment: str, text: str) -> None:
        print(moment, text, flush=True)
        if (moment, text) == stop_at:
            print("here", flush=True)
            await asyncio.Event().wait()

    store = SqliteStore(data_dir)
    await store.open()
    worker = Worker(store, EchoConsolidator(store, at), ProgressBoard(), Clock(now=lambda: now), WorkerPolicy())
    while await worker.step():
        pass
    await store.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2]), tuple(sys.argv[3:])))
