"""What keeps a store from being durable, as its calls met it, and whether that is over.

call fails at the disk ─▶ trouble ─▶ whoever waits for it (health: NOT_SERVING) ─▶ probe, again and again ─▶ none
                             └─▶ a commit succeeds ─▶ none, unless what is stored is damaged
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Protocol

from lightmem_server.errors import DamagedError, DiskError
from lightmem_server.store.connection import store_errors

PROBE_BYTES = 1 << 20
"""Room that a probe wants: what a group of commits may take."""

PROBE_NAME = ".probe"


class TroubledStore(Protocol):
    """The part of a store that tells whether it can keep its promises."""

    async def wait_trouble(self) -> DiskError:
        """Wait until a call has met a disk that is full, read-only or gone, or a damaged database; at once where one has
        and nothing since shows that this is over."""

    async def probe(self) -> None:
        """Try whether commits are durable, and a damaged database sound again; if so, there is no trouble any more.

        Raises:
            DiskError, StoreError: They are not.
        """


class Trouble:
    """The trouble that calls have met. Belongs to one event loop."""

    def __init__(self) -> None:
        self.error: DiskError | None = None
        self._met = asyncio.Event()

    def meet(self, error: DiskError) -> None:
        """A call has failed so. Damage is not forgotten over a full disk."""
        if not isinstance(self.error, DamagedError):
            self.error = error
        self._met.set()

    def commit_succeeded(self) -> None:
        """Something is durable. A sound part of a damaged database still is."""
        if self.error is not None and not isinstance(self.error, DamagedError):
            self.end()

    def end(self) -> None:
        """It is over."""
        self.error = None
        self._met.clear()

    async def wait(self) -> DiskError:
        """See `TroubledStore.wait_trouble`."""
        while self.error is None:
            await self._met.wait()
        return self.error


def try_room(folder: Path) -> None:
    """Write, sync and remove a file. Blocks.

    Raises:
        DiskError: There is no room, or no right.
    """
    path = folder / PROBE_NAME
    with store_errors(str(folder)):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                left = memoryview(bytes(PROBE_BYTES))
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        finally:
            path.unlink(missing_ok=True)
