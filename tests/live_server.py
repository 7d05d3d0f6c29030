"""A whole server in a thread of this process, with the fake models and a clock that tests move; spoken to over real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from lightmem_server.config import load
from lightmem_server.pipeline.clock import Clock
from lightmem_server.server import LightMemServer, Models
from lightmem_server.slm.fakes import HashEmbedder, OverlapSelector
from lightmem_server.slm.foreground import Foreground

ENDED_SECONDS = 30
"""A guard against hanging, not a measurement."""

T = TypeVar("T")


@dataclass
class FakeModels:
    """The public fakes, as a server takes them."""

    embedder: Any = field(default_factory=HashEmbedder)
    selector: Any = field(default_factory=OverlapSelector)
    gate: Any = field(default_factory=OverlapSelector)
    writer: None = None
    foreground: Foreground = field(default_factory=Foreground)

    async def close(self) -> None:
        """Nothing to release."""


class LiveServer:
    """A context manager. `ahead_micros` is how far its clock is ahead of the real one; tests set it."""

    def __init__(self, data_dir: Path, *, models: Callable[[], Models] = FakeModels, **flags: object) -> None:
        fixed: dict[str, object] = {"data_dir": data_dir, "listen": "127.0.0.1:0", "drain_seconds": 2}
        self.settings = load({**fixed, **flags}, environment={})
        self.ahead_micros = 0
        clock = Clock(now=lambda: time.time_ns() // 1000 + self.ahead_micros)
        self.server = LightMemServer(self.settings, lambda _: models(), clock=clock)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="live-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self.server.start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ENDED_SECONDS)
        self._loop.close()

    @property
    def address(self) -> str:
        """host:port."""
        return self.server.address

    @property
    def key(self) -> str:
        """The admin key that the first start left."""
        return self.settings.admin_key_file.read_text().strip()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Nothing is done by the server while the block runs; what is sent to it meanwhile lies before it at once."""
        stopped, going_on = threading.Event(), threading.Event()

        def stop() -> None:
            stopped.set()
            going_on.wait(ENDED_SECONDS)

        self._loop.call_soon_threadsafe(stop)
        assert stopped.wait(ENDED_SECONDS)
        try:
            yield
        finally:
            going_on.set()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop."""
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(ENDED_SECONDS)
