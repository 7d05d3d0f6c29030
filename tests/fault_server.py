"""The server with fault points, for tests: `FAULT=POINT:COUNT python -m tests.fault_server serve --data-dir DIR`.

At the COUNTth time after SIGUSR1 that it comes to POINT the process kills itself with SIGKILL. It is the shipped server,
put together by its own composition root, with the fakes of slm.fakes as models: a restart takes no weights, and nothing of
durability is theirs. The points are looked at from outside: through SQLite's own trace of its statements, and through a store
derived from the real one. So the shipped server has no switch that could end it, and its code is the code under test.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import apsw

from lightmem_server.cli.logs import configure_logging
from lightmem_server.config import Settings, load
from lightmem_server.errors import LightMemError
from lightmem_server.server import serve
from lightmem_server.slm.fakes import HashEmbedder, OverlapSelector
from lightmem_server.slm.foreground import Foreground
from lightmem_server.store.backup_protocol import BackupProgress, BackupStage
from lightmem_server.store.protocol import Change, CommitResult
from lightmem_server.store.sqlite import SqliteStore


class Point(StrEnum):
    """Where the process can end."""

    IN_BATCH = "in_batch"
    """One piece of work of a group is applied, the next ones aren't."""
    BEFORE_COMMIT = "before_commit"
    """All of the group is applied, nothing of it is committed."""
    AFTER_COMMIT = "after_commit"
    """The group is on disk, and nobody who waits for it knows."""
    BEFORE_ACK = "before_ack"
    """The write path knows, its caller doesn't."""
    IN_BACKUP = "in_backup"
    """Some pages are copied."""
    BEFORE_BACKUP_IS_NAMED = "before_backup_is_named"
    """All pages are copied; the copy isn't checked and has no name."""


@dataclass
class FakeModels:
    """The public fakes, as a server takes them."""

    embedder: HashEmbedder = field(default_factory=HashEmbedder)
    selector: OverlapSelector = field(default_factory=OverlapSelector)
    gate: OverlapSelector = field(default_factory=OverlapSelector)
    writer: None = None
    foreground: Foreground = field(default_factory=Foreground)

    async def close(self) -> None:
        """Nothing to release."""


class Trap:
    """Ends the process at the point and count that `FAULT` names, once it is armed."""

    def __init__(self, fault: str) -> None:
        point, _, count = fault.partition(":")
        self._point = Point(point)
        self._left = int(count)
        self._is_armed = False
        signal.signal(signal.SIGUSR1, self._arm)

    def _arm(self, *_: object) -> None:
        self._is_armed = True

    def come_to(self, point: Point) -> None:
        """The process is at a point."""
        if self._is_armed and point is self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def trace(self, connection: apsw.Connection) -> None:
        """Look for the points of group commit among a connection's statements."""

        def see(event: dict[str, Any]) -> None:
            point = POINTS.get((event["code"], event["sql"]))
            if point is not None:
                self.come_to(point)

        connection.trace_v2(apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_PROFILE, see)


POINTS = {
    (apsw.SQLITE_TRACE_PROFILE, "RELEASE work"): Point.IN_BATCH,
    (apsw.SQLITE_TRACE_STMT, "COMMIT"): Point.BEFORE_COMMIT,
    (apsw.SQLITE_TRACE_PROFILE, "COMMIT"): Point.AFTER_COMMIT,
}
"""A statement's beginning (STMT) or end (PROFILE), as store/writer.py writes it; `test_faults` sees that each is met."""


class TrappedStore(SqliteStore):
    """The real store, with the points that SQLite doesn't see."""

    def __init__(self, data_dir: Path, trap: Trap) -> None:
        super().__init__(data_dir)
        self._trap = trap

    async def commit(self, change: Change) -> CommitResult:
        """As the store's."""
        result = await super().commit(change)
        self._trap.come_to(Point.BEFORE_ACK)
        return result

    async def backup(self, name: str) -> AsyncGenerator[BackupProgress, None]:
        """As the store's."""
        async for moment in super().backup(name):
            if moment.stage is BackupStage.COPY:
                self._trap.come_to(Point.IN_BACKUP)
            elif moment.stage is BackupStage.VERIFY:
                self._trap.come_to(Point.BEFORE_BACKUP_IS_NAMED)
            yield moment


def main(arguments: list[str], fault: str) -> None:
    """Run it with the settings that the arguments name, as `serve` does."""
    flags = {flag.removeprefix("--").replace("-", "_"): value for flag, value in _pairs(arguments)}
    make_store: Callable[[Path], SqliteStore] = SqliteStore
    if fault:
        trap = Trap(fault)
        apsw.connection_hooks.append(trap.trace)
        make_store = lambda data_dir: TrappedStore(data_dir, trap)  # noqa: E731
    try:
        settings: Settings = load(flags)
        configure_logging(settings)
        asyncio.run(serve(settings, lambda _: FakeModels(), make_store=make_store))
    except LightMemError as error:
        sys.exit(f"Error: {error.message}")


def _pairs(arguments: list[str]) -> zip[tuple[str, str]]:
    return zip(arguments[::2], arguments[1::2], strict=True)


if __name__ == "__main__":
    main(sys.argv[2:], os.environ.pop("FAULT", ""))
