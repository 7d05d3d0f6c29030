"""Makes the calls of a plan, in open loop: each at its moment, whatever became of those before it.

A call's latency counts from the moment at which it was to be sent, so a server that stalls, or a generator, is charged for all
who would have called meanwhile. Refusals are not repeated: they are what is counted. A turn is a Write stream of one request.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

from lightmem_client import AsyncClient

from tests.bench.load.measured import Measured
from tests.bench.load.payload import Said
from tests.bench.load.scenario import Planned, Scenario
from tests.bench.loops import at_moments
from tests.bench.tally import NOT_SENT, Ended

TELL_SECONDS = 120


class Generator:
    """Calls of one scenario. `run_id` keeps the users of this run apart from those of an earlier one."""

    def __init__(self, scenario: Scenario, client: AsyncClient, said: Said, run_id: str) -> None:
        self._scenario = scenario
        self._client = client
        self._said = said
        self._run_id = run_id

    async def tell(self, target: str, key: str | None, told: Callable[[int], None]) -> None:
        """Let each user have said something, with a client of its own, which repeats what is refused: this is not measured.

        Args:
            told: Hears of each user how many turns.

        Raises:
            LightMemError.
        """
        async with AsyncClient(target, api_key=key, timeout_seconds=TELL_SECONDS) as client:
            for user in range(self._scenario.users):
                async with client.open_writer(user_id=self._user_id(user), session_id="told") as writer:
                    for turn in self._said.told(user):
                        await writer.send(turn)
                told(self._said.told_turns)

    async def run(self, planned: Sequence[Planned], measured: Measured) -> None:
        """Make all the calls, and count what comes of them."""

        async def work(number: int, intended: float) -> None:
            one = planned[number]
            measured.open_calls += 1
            call = self._call(one, measured)
            measured.add_to_course(one, await measured.tally(one).count(call, intended))
            measured.open_calls -= 1

        def not_sent(number: int) -> None:
            one = planned[number]
            measured.tally(one).count_not_sent()
            measured.add_to_course(one, Ended(NOT_SENT, 0.0))

        gc.collect()
        gc.freeze()  # a walk through the plan would be counted as the server's
        moments = [one.at for one in planned]
        seconds = await at_moments(work, moments, max_open=self._scenario.max_open, not_sent=not_sent)
        measured.elapsed_seconds = max(0.0, seconds - self._scenario.warm_up_seconds)

    async def _call(self, one: Planned, measured: Measured) -> None:
        user_id = self._user_id(one.user)
        if one.kind == "retrieve":
            answer = await self._client.retrieve(self._said.query(one.user, one.number), user_id=user_id)
            measured.cut_count += answer.trace.is_cut_by_deadline and measured.is_counted(one)
        else:
            session_id, turn = self._said.turn(one.user, one.number)
            await self._client.write(turn, user_id=user_id, session_id=session_id)

    def _user_id(self, user: int) -> str:
        return f"load-{self._run_id}-{user}"
