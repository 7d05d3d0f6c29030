"""Turns at work, shared fairly between users: one user's flood is mostly that user's wait.

Each owner has a line of its own. The next turn goes to the owner whose turns have taken the least time so far, counted from
when it last came from idleness (start-time fair queueing, Goyal, Vin and Cheng 1996, with the time that a turn really took);
an owner has at most a few turns at a time, so that who comes next finds one free. Lines are bounded: by how long one waits, and
when there is no room, by ending the newest of the longest line.

Calls come in ahead of work. gRPC looks at the next call once in some five rounds of the event loop, and a round is as long as
the steps of all that is at work: with 16 turns at work 70 calls a second got as far as being refused, the rest lay in the
transport, beyond every limit, until it dropped them or their deadlines passed. So a turn that others wait for is given again
once no call came for QUIET_ROUNDS rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field

from lightmem_server.errors import OverloadedError
from lightmem_server.slm.pace import Pace

FIRST_GUESS_SECONDS = 0.05
"""What a turn takes, until one has ended."""

QUIET_ROUNDS = 16
"""Rounds of the event loop without a new call, after which turns are given: three times what lies between two of gRPC's."""

MOST_ROUNDS = 160
"""After which they are given anyhow: those who wait go on though calls that will be refused never end."""

MOST_IDLE = 1024
"""Owners who are remembered though they want nothing."""

LEAST_RETRY_SECONDS = 0.25
MOST_RETRY_SECONDS = 30.0


class Arrivals:
    """Counts the calls that came, whatever became of them."""

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        """One came."""
        self.count += 1


@dataclass(slots=True, eq=False)
class _Line:
    """One owner. `used`: the time that its turns took, on the queue's own clock. Those who wait are told what their turn was
    charged with beforehand."""

    used: float
    working: int = 0
    waiting: deque[asyncio.Future[float]] = field(default_factory=deque)


class FairQueue:
    """Gives out turns. Belongs to one event loop."""

    def __init__(
        self,
        *,
        max_working: int,
        max_working_per_owner: int,
        max_wait_seconds: float,
        arrivals: Arrivals | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`arrivals`: which go ahead of turns that others wait for; None: none do."""
        self._max_working = max_working
        self._max_working_per_owner = max_working_per_owner
        self._max_wait_seconds = max_wait_seconds
        self._arrivals = arrivals
        self._is_listening = False
        self._clock = clock
        self._lines: dict[Hashable, _Line] = {}
        self._working = 0
        self._pace = Pace(FIRST_GUESS_SECONDS)
        self._now_used = 0.0
        """What the owner had used whose turn came last: who comes from idleness starts there, with no claim on the past."""

    @property
    def waiting_count(self) -> int:
        """Turns that are waited for."""
        return sum(len(line.waiting) for line in self._lines.values())

    @contextlib.asynccontextmanager
    async def turn(self, owner: Hashable) -> AsyncIterator[None]:
        """Holds a turn for the block.

        Raises:
            OverloadedError: None came in time, or the line was too long.
        """
        line = self._lines.setdefault(owner, _Line(self._now_used))
        line.used = max(line.used, self._now_used)
        place: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        line.waiting.append(place)
        try:
            self._give()
            if not place.done():
                await self._wait(place)
            charged = place.result()
        except BaseException:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._end(line, 0.0, place.result())  # it came in the moment in which the caller left
            elif place in line.waiting:
                line.waiting.remove(place)
                self._drop_idle()
            raise
        began = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - began
            self._pace.observe(1, seconds)
            self._end(line, seconds, charged)

    def shed(self, *, longer_than: int) -> bool:
        """End the newest of the longest line, if that one waits with more than so many. Whether there was one."""
        longest = max(self._lines.values(), key=lambda line: len(line.waiting), default=None)
        if longest is None or len(longest.waiting) <= longer_than:
            return False
        longest.waiting.pop().set_exception(self._overloaded("others wait who ask for less"))
        return True

    async def _wait(self, place: asyncio.Future[float]) -> None:
        await asyncio.wait({place}, timeout=self._max_wait_seconds)
        if not place.done():
            raise self._overloaded(f"no turn came within {self._max_wait_seconds:g} s")

    def _give_again(self) -> None:
        """Hand out turns that came free, once the calls are in that have come meanwhile."""
        if self._arrivals is None or not self.waiting_count:
            self._give()
        elif not self._is_listening:
            self._is_listening = True
            self._listen(self._arrivals, self._arrivals.count, 0, 0)

    def _listen(self, arrivals: Arrivals, count: int, quiet_rounds: int, rounds: int) -> None:
        quiet_rounds = quiet_rounds + 1 if arrivals.count == count else 0
        if quiet_rounds < QUIET_ROUNDS and rounds < MOST_ROUNDS and self.waiting_count:
            again = asyncio.get_running_loop().call_soon
            again(self._listen, arrivals, arrivals.count, quiet_rounds, rounds + 1)
        else:
            self._is_listening = False
            self._give()

    def _give(self) -> None:
        """Hand out the turns that are free."""
        while self._working < self._max_working and not self._is_listening:
            ready = [
                line for line in self._lines.values() if line.waiting and line.working < self._max_working_per_owner
            ]
            if not ready:
                return
            line = min(ready, key=lambda line: line.used)
            self._now_used = max(self._now_used, line.used)
            charge = self._pace.seconds_per_unit  # until it is known what this turn takes
            line.used += charge
            line.working += 1
            self._working += 1
            line.waiting.popleft().set_result(charge)

    def _end(self, line: _Line, seconds: float, charged: float) -> None:
        line.used += seconds - charged
        line.working -= 1
        self._working -= 1
        self._drop_idle()
        self._give_again()

    def _drop_idle(self) -> None:
        """Forget the owners who want nothing, but for those ahead of the others: a pause doesn't forgive that while there are
        others. There are no more of them than came since the server was last idle, and MOST_IDLE at most."""
        is_idle = not self._working and not self.waiting_count
        idle = [owner for owner, line in self._lines.items() if not line.working and not line.waiting]
        for owner in idle:
            if is_idle or self._lines[owner].used <= self._now_used or len(idle) > MOST_IDLE:
                del self._lines[owner]

    def _overloaded(self, message: str) -> OverloadedError:
        seconds = self._pace.retry_after(self.waiting_count, self._max_working)
        return OverloadedError(
            message, retry_after_seconds=min(MOST_RETRY_SECONDS, max(LEAST_RETRY_SECONDS, seconds)), reason="OVERLOADED"
        )
