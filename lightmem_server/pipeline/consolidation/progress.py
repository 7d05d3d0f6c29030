"""How far runs are, for those who follow them. Kept in memory: a run goes on whether or not somebody follows."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from lightmem_server.errors import UnavailableError
from lightmem_server.types import Partition

QUEUE = "queue"
"""Stage of a job that waits for a worker."""

WAIT = "wait"
"""Stage of a run that waits for the namespace's budget of model time."""

DONE = "done"


class Ending(Enum):
    """How a run, or an attempt at it, ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of a run.

    Attributes:
        run_id: None: no run has begun, or there was nothing to do.
        done, total: Items of the stage.
        kept, rejected: Candidates so far; the rejected by the name of the rule.
        remaining_seconds: Estimate to the end of the stage; None: not known.
        ending: Set in the last one.
        error: Why it failed, for a person.
    """

    run_id: uuid.UUID | None
    stage: str
    done: int = 0
    total: int = 0
    kept: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    remaining_seconds: float | None = None
    ending: Ending | None = None
    error: str = ""


class ProgressBoard:
    """The last progress of each run, and who follows it."""

    def __init__(self) -> None:
        self._last: dict[Partition, Progress] = {}
        self._followers: dict[Partition, set[asyncio.Queue[Progress | None]]] = {}
        self._is_closed = False

    def post(self, partition: Partition, progress: Progress) -> None:
        """Tell the followers of a partition. A follower who is slow misses what is in between."""
        if progress.ending is None:
            self._last[partition] = progress
        else:
            self._last.pop(partition, None)
        for queue in self._followers.get(partition, ()):
            _put(queue, progress)

    @contextlib.contextmanager
    def follow(self, partition: Partition) -> Iterator[AsyncGenerator[Progress, None]]:
        """What is posted from now on, until a run ends; first how far one is that is at work.

        Raises (the generator): UnavailableError when the server drains.
        """
        queue: asyncio.Queue[Progress | None] = asyncio.Queue(1)
        followers = self._followers.setdefault(partition, set())
        followers.add(queue)
        try:
            yield self._receive(queue, self._last.get(partition))
        finally:
            followers.discard(queue)
            if not followers:
                self._followers.pop(partition, None)

    def is_at_work(self, partition: Partition) -> bool:
        """Whether a run of this partition is at work here."""
        return partition in self._last

    def close(self) -> None:
        """End all following: the server drains."""
        self._is_closed = True
        for followers in self._followers.values():
            for queue in followers:
                _put(queue, None)

    async def _receive(
        self, queue: asyncio.Queue[Progress | None], last: Progress | None
    ) -> AsyncGenerator[Progress, None]:
        if last is not None:
            yield last
        while not self._is_closed:
            progress = await queue.get()
            if progress is None:
                break
            yield progress
            if progress.ending is not None:
                return
        raise UnavailableError("the server is draining; the run goes on when it is back", reason="DRAINING")


def _put(queue: asyncio.Queue[Progress | None], progress: Progress | None) -> None:
    """Replace what the follower has not taken yet: the newest counts."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(progress)
