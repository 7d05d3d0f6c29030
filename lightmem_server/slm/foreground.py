"""Lets background work stand aside for online requests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class Foreground:
    """Counts the online requests at work. busy() and idle() are for the event loop, wait_idle() for any other thread."""

    def __init__(self) -> None:
        self._count = 0
        self._reading = 0
        self._idle = threading.Event()
        self._idle.set()

    @property
    def is_busy(self) -> bool:
        """Whether an online request is at work."""
        return self._count > 0

    def is_reading(self) -> bool:
        """Whether somebody waits for what was asked: what is written in bulk then takes less."""
        return self._reading > 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """As busy(), for a block that answers a question."""
        self._reading += 1
        try:
            with self.busy():
                yield
        finally:
            self._reading -= 1

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Holds background work back while the block runs."""
        self._count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()

    def wait_idle(self, timeout_seconds: float) -> bool:
        """Block until no online request is at work, at most so long; whether that is so now."""
        return self._idle.wait(timeout_seconds)

    async def idle(self, timeout_seconds: float) -> None:
        """As wait_idle, for work on the event loop."""
        if self.is_busy:
            await asyncio.to_thread(self.wait_idle, timeout_seconds)
