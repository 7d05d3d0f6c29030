"""What every part of the latency bench needs: how much to measure, the server, the users, the clients."""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightmem_client import AsyncClient, Client, RetrieveResult, RetryPolicy
from rich.progress import Progress, TaskID

from lightmem_server.cli.process import clean_environment, running_server
from lightmem_server.config import Settings
from tests.bench.datasets import Conversation, Question
from tests.bench.loops import Answered, Call
from tests.bench.quality import Told, tell

NO_RETRY = RetryPolicy(max_attempts=1)
"""Refusals are to be counted, not hidden."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        users: Conversations that are told to the server.
        rates: Clients, and their calls per second together.
        step_seconds: Of one step of open-loop arrivals.
        busy_clients, busy_seconds: Of the closed loop, with the default deadline, without one, and the Selector alone.
        busy_rounds: Alternating rounds of the last two.
        deadlines_ms: What is asked.
        deadline_rate: Calls per second in that part, one client.
        memories: Of the users of `scale` and `cold`.
        source_turns: Turns that those are varied from.
        scale_rounds: Calls per user, with the Selector and without.
        cold_starts: Starts of the server.
        cold_users: Users of each size that a start finds cold.
        beside_rounds, beside_calls: Alternating rounds, and calls of each in a round.
        off_rounds, off_calls: Alternating rounds, and calls of each in a round.
    """

    users: int = 10
    rates: tuple[tuple[int, float], ...] = ((1, 4.0), (4, 8.0), (16, 12.0))
    step_seconds: float = 30.0
    busy_clients: int = 16
    busy_seconds: float = 15.0
    busy_rounds: int = 2
    deadlines_ms: tuple[int, ...] = (20, 50, 100, 200)
    deadline_rate: float = 6.0
    memories: tuple[int, ...] = (1_000, 10_000, 100_000)
    source_turns: int = 2_000
    scale_rounds: int = 200
    cold_starts: int = 3
    cold_users: tuple[int, ...] = (8, 3, 1)
    beside_rounds: int = 5
    beside_calls: int = 60
    off_rounds: int = 5
    off_calls: int = 100


QUICK = Sizes(
    users=1,
    rates=((1, 8.0), (2, 8.0)),
    step_seconds=0.5,
    busy_clients=2,
    busy_seconds=0.3,
    busy_rounds=1,
    deadlines_ms=(20, 200),
    deadline_rate=8.0,
    memories=(40, 120),
    source_turns=40,
    scale_rounds=2,
    cold_starts=1,
    cold_users=(1, 1),
    beside_rounds=1,
    beside_calls=2,
    off_rounds=2,
    off_calls=3,
)


@dataclass(slots=True)
class Bench:
    """What every part needs."""

    sizes: Sizes
    settings: Settings
    seed: int
    conversations: Sequence[Conversation]
    progress: Progress
    told: list[Told] = field(default_factory=list)

    @contextlib.contextmanager
    def server(self, *more: str) -> Iterator[tuple[str, str]]:
        """A server with default settings on the bench's folder, but for the capacity, what is filled in stays in search, and
        for `more` flags."""
        capacity = max(self.settings.mtm_capacity, *self.sizes.memories)
        flags = ("--models-dir", str(self.settings.models_dir), "--mtm-capacity", str(capacity), *more)
        with running_server(self.settings.data_dir, flags=flags, environment=clean_environment()) as server:
            yield server.target, server.key

    @contextlib.contextmanager
    def telling_server(self) -> Iterator[tuple[str, str]]:
        """The same, with the conversations told."""
        with self.server() as (target, key):
            if not self.told:
                with Client(target, api_key=key, timeout_seconds=120) as client:
                    self.told, _ = tell(client, self.conversations, self.progress)
            yield target, key

    def questions(self) -> list[tuple[Told, Question]]:
        """What is asked, the users in turn."""
        columns = [[(one, question) for question in one.conversation.questions] for one in self.told]
        return [pair for row in itertools.zip_longest(*columns) for pair in row if pair is not None]


@contextlib.asynccontextmanager
async def connected(target: str, key: str, count: int) -> AsyncIterator[list[AsyncClient]]:
    """So many clients. gRPC lets all of a process share one connection."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(AsyncClient(target, api_key=key, retry=NO_RETRY, timeout_seconds=60))
            for _ in range(count)
        ]


def asking(clients: Sequence[AsyncClient], pairs: Sequence[tuple[Told, Question]], **options: Any) -> Call:
    """Call number i asks question number i."""

    async def call(number: int, client: int) -> RetrieveResult:
        one, question = pairs[number % len(pairs)]
        return await clients[client].retrieve(
            question.text, user_id=one.user_id, asked_at=one.conversation.asked_at, **options
        )

    return call


async def warm_up(clients: Sequence[AsyncClient], pairs: Sequence[tuple[Told, Question]]) -> None:
    """Loads the users and opens the connections; uncounted. What this process holds by then is left out of garbage collection:
    a walk through it, 42 ms, would be counted as the server's."""
    call = asking(clients, pairs)
    for number in range(max(8, len({one.user_id for one, _ in pairs}))):
        await call(number, number % len(clients))
    for client in range(len(clients)):
        await call(client, client)
    gc.collect()
    gc.freeze()


def advancing(bench: Bench, task: TaskID, then: Answered | None = None) -> Answered:
    """Moves the bar, and tells who wants to know."""

    def answered(number: int, answer: RetrieveResult) -> None:
        bench.progress.advance(task)
        if then is not None:
            then(number, answer)

    return answered
