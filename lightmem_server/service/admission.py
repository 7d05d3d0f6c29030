"""Admits calls or refuses them at once: by what is at work, by how long one would wait, and fairly between users.

Every call holds a place for as long as it is open; there are so many in all, and of one user. Calls that take the models'
time, Retrieve, Explain and each step of a Write stream, wait for a turn besides, in a line for each user (fair.py). Where
places run out, the newest call of the longest line makes room, if that line is longer than the newcomer's own.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import TypeVar

from lightmem_server.config import Settings
from lightmem_server.errors import OverloadedError
from lightmem_server.service.fair import Arrivals, FairQueue

RETRY_AFTER_SECONDS = 0.25
"""What a refused caller is told to wait when all places are taken: about one retrieval."""

WORKING_PER_CORE = 2
"""Retrieves of one user that take the models' time at once. One more in all: who comes next finds it free. More share the same
cores and make each of their answers later: on two cores 16 clients that never pause got .79 of what the Selector alone can
judge with 5 at work, of one user 4, and .72 with 16, of one user 2."""

MAX_WRITING_PER_USER = 1
"""Writes of one user follow each other anyway."""

K = TypeVar("K", bound=Hashable)


class Admission:
    """The places and the turns of one server."""

    def __init__(
        self,
        *,
        max_requests: int,
        max_requests_per_user: int,
        max_streams: int,
        max_streams_per_key: int,
        reads: FairQueue,
        writes: FairQueue,
        arrivals: Arrivals | None = None,
    ) -> None:
        self._max_requests = max_requests
        self._max_requests_per_user = max_requests_per_user
        self._max_streams = max_streams
        self._max_streams_per_key = max_streams_per_key
        self.reads = reads
        """Turns of Retrieve and Explain."""
        self.writes = writes
        """Turns of the steps of Write streams."""
        self.arrivals = arrivals or Arrivals()
        """Counts the calls, before it is known what becomes of them."""
        self._requests: Counter[tuple[str, str]] = Counter()
        self._streams: Counter[str] = Counter()

    @classmethod
    def from_settings(cls, settings: Settings) -> Admission:
        """With the limits that the settings have."""
        cores = settings.threads or len(os.sched_getaffinity(0))
        # One group of turns holds both views of its turns in the embedder's queue.
        groups = max(1, settings.max_queued_texts // (4 * settings.max_turns_per_request))
        arrivals = Arrivals()
        per_user = settings.max_working_per_user or WORKING_PER_CORE * cores
        return cls(
            max_requests=settings.max_inflight_requests,
            max_requests_per_user=settings.max_inflight_per_user or max(1, settings.max_inflight_requests // 2),
            max_streams=settings.max_streams,
            max_streams_per_key=settings.max_streams_per_key,
            reads=FairQueue(
                max_working=settings.max_working_requests or per_user + 1,
                max_working_per_owner=per_user,
                max_wait_seconds=settings.max_queue_seconds,
                arrivals=arrivals,
            ),
            writes=FairQueue(
                max_working=groups,
                max_working_per_owner=MAX_WRITING_PER_USER,
                max_wait_seconds=settings.max_queue_seconds,
                arrivals=arrivals,
            ),
            arrivals=arrivals,
        )

    @property
    def request_count(self) -> int:
        """Requests that hold a place."""
        return self._requests.total()

    @contextlib.contextmanager
    def request(self, owner: tuple[str, str]) -> Iterator[None]:
        """Holds the place of one request. `owner`: the namespace, and the user whom it names or "".

        Raises:
            OverloadedError: None is free.
        """
        if self._requests[owner] >= self._max_requests_per_user:
            raise OverloadedError(
                f"{self._max_requests_per_user} requests of this user are at work",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        is_full = self._requests.total() >= self._max_requests
        if is_full and not self.reads.shed(longer_than=self._requests[owner] + 1):
            raise OverloadedError(f"{self._max_requests} requests are at work", retry_after_seconds=RETRY_AFTER_SECONDS)
        with _counted(self._requests, owner):
            yield

    @contextlib.contextmanager
    def stream(self, key_id: str) -> Iterator[None]:
        """Holds the place of one stream of a key. Raises OverloadedError when none is free."""
        if self._streams[key_id] >= self._max_streams_per_key:
            raise OverloadedError(
                f"this key has {self._max_streams_per_key} open streams",
                retry_after_seconds=RETRY_AFTER_SECONDS,
                reason="TOO_MANY_STREAMS",
            )
        if self._streams.total() >= self._max_streams:
            raise OverloadedError(
                f"{self._max_streams} streams are open",
                retry_after_seconds=RETRY_AFTER_SECONDS,
                reason="TOO_MANY_STREAMS",
            )
        with _counted(self._streams, key_id):
            yield


@contextlib.contextmanager
def _counted(counts: Counter[K], key: K) -> Iterator[None]:
    counts[key] += 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
