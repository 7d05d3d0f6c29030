"""Builds the graphs of large partitions in the background, one partition at a time.

Steps of the engine run in a thread of their own at the lowest priority; searches and writes go on beside them. A drain
ends the build with the step in hand: graphs are not stored, and a partition that is loaded again gets new ones.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

from lightmem_server.core import Engine
from lightmem_server.errors import CoreError
from lightmem_server.types import Partition

STEP_ROWS = 64
"""Rows of one step, some 50 ms: what a drain may have to wait for."""

log = structlog.get_logger()


class GraphBuilder:
    """A set of changed partitions, drained by one task.

    Attributes:
        idle: Set while no noted partition waits or is worked on.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()
        self.idle = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="graphs", initializer=_lower_priority)

    def notice(self, partition: Partition, row_count: int, *, is_full: bool) -> None:
        """See `residents.Listener`: whatever was changed, the engine knows what lacks a graph."""
        self._changed[partition.key] = None
        self.idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Give noted partitions the graphs they lack, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._changed:
                partition = next(iter(self._changed))
                del self._changed[partition]
                try:
                    await self._build(partition)
                except CoreError as error:
                    # Searched exactly, then; tried again after its next change.
                    log.warning("graph_not_built", error=error.message)
            self.idle.set()

    async def _build(self, partition: str) -> None:
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._executor, self._engine.ann_due, partition):
            return
        started = loop.time()
        while await loop.run_in_executor(self._executor, self._engine.build_ann, partition, STEP_ROWS):
            pass
        log.info("graph_built", seconds=round(loop.time() - started, 1))

    def close(self) -> None:
        """Wait for the step in hand."""
        self._executor.shutdown(cancel_futures=True)


def _lower_priority() -> None:
    # Elsewhere the priority is the whole process's.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
