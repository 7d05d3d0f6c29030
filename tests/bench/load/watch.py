"""Looks at the server beside a run: its process, and what GetStats says."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from pathlib import Path

from lightmem_client import AsyncClient, LightMemError, PermissionDeniedError, Stats, UnauthenticatedError

from tests.bench.load.measured import Measured, Sample

SAMPLE_SECONDS = 1.0
STATS_SECONDS = 5.0
"""From one GetStats to the next: it counts records."""

MIB = 1 << 20


class ProcessWatch:
    """Memory and processor time of a process on this machine, from /proc (Linux)."""

    def __init__(self, process_id: int) -> None:
        self._folder = Path("/proc") / str(process_id)
        self._seconds: float | None = None
        self._at = 0.0

    def rss_mib(self) -> float | None:
        """Resident memory. None where it can't be read."""
        try:
            pages = int((self._folder / "statm").read_text().split()[1])
        except OSError:
            return None
        return round(pages * os.sysconf("SC_PAGE_SIZE") / MIB, 1)

    def cpu_cores(self) -> float | None:
        """How many cores were busy since the last call. None for the first one, or where it can't be read."""
        try:
            fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system time
        now, before, then = time.monotonic(), self._seconds, self._at
        self._seconds, self._at = seconds, now
        return None if before is None or now <= then else round((seconds - before) / (now - then), 2)


class Watch:
    """Samples a server into what is measured. `process_id` None: it is not on this machine."""

    def __init__(self, client: AsyncClient, process_id: int | None, measured: Measured) -> None:
        self._client = client
        self._process = None if process_id is None else ProcessWatch(process_id)
        self._measured = measured
        self._stats: Stats | None = None
        self.stats_problem = ""
        """Why GetStats is left out, such as a key that is no admin's."""

    async def run(self) -> None:
        """Sample until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_at_process())
            group.create_task(self._ask_for_stats())

    async def _look_at_process(self) -> None:
        began = time.perf_counter()
        for number in itertools.count(1):
            self.sample(time.perf_counter() - began - self._measured.scenario.warm_up_seconds)
            await asyncio.sleep(max(0.0, began + number * SAMPLE_SECONDS - time.perf_counter()))

    def sample(self, at: float) -> None:
        """Take one, with the stats that came since the one before."""
        process, (stats, self._stats) = self._process, (self._stats, None)
        self._measured.samples.append(
            Sample(
                at=round(at, 2),
                open_calls=self._measured.open_calls,
                rss_mib=None if process is None else process.rss_mib(),
                cpu_cores=None if process is None else process.cpu_cores(),
                resident_mib=None if stats is None else round(stats.resident_size_bytes / MIB, 2),
                store_mib=None if stats is None else round(stats.store_size_bytes / MIB, 2),
                pending_jobs=None if stats is None else stats.pending_job_count,
            )
        )

    async def _ask_for_stats(self) -> None:
        while not self.stats_problem:
            try:
                self._stats = await self._client.stats()
            except (PermissionDeniedError, UnauthenticatedError) as error:
                self.stats_problem = str(error)
            except LightMemError:
                pass  # the server has too much to do: so it is this time without
            await asyncio.sleep(STATS_SECONDS)
