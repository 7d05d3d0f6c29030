"""How far a run is, on standard error: a bar where there is a terminal, else a line now and then."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console

from tests.bench.load.measured import Measured
from tests.bench.load.scenario import KINDS, Scenario
from tests.bench.options import open_bars
from tests.bench.tally import OK

SHOW_SECONDS = 1.0
LINE_EVERY = 10
"""Where there is no terminal: seconds from line to line."""


class Progress:
    """Of one run."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._console = Console(stderr=True)

    @contextlib.contextmanager
    def telling(self) -> Iterator[Callable[[int], None]]:
        """While the users are told of: what to call with each so many turns."""
        total = self._scenario.users * self._scenario.payload.told_turns
        with open_bars() as bars:
            task = bars.add_task("telling", total=total)
            yield lambda turns: bars.advance(task, turns)

    async def follow(self, measured: Measured) -> None:
        """Show a run until cancelled."""
        began = time.perf_counter()
        total = round(self._scenario.warm_up_seconds + self._scenario.seconds)
        with open_bars() if self._console.is_terminal else contextlib.nullcontext() as bars:
            task = None if bars is None else bars.add_task("", total=total)
            shown = 0
            while True:
                at = min(int(time.perf_counter() - began), total)
                if bars is not None and task is not None:
                    bars.update(task, completed=at, description=line(measured))
                elif at // LINE_EVERY > shown:
                    shown = at // LINE_EVERY
                    self._console.print(f"{at} of {total} s: {line(measured)}", highlight=False, soft_wrap=True)
                await asyncio.sleep(SHOW_SECONDS)


def line(measured: Measured) -> str:
    """Where a run stands."""
    parts = []
    for kind in KINDS:
        tally = measured.tallies[kind]
        if tally.statuses:
            p95 = tally.answered.percentile_ms(0.95)
            not_ok = tally.statuses.total() - tally.statuses[OK]
            parts.append(
                f"{kind} {tally.statuses[OK]} ok, {not_ok} not, p95 {'none' if p95 is None else f'{p95:.0f} ms'}"
            )
    parts.append(f"{measured.open_calls} open")
    if measured.samples and (rss := measured.samples[-1].rss_mib) is not None:
        parts.append(f"{rss:.0f} MiB")
    return "; ".join(parts if len(parts) > 1 else ["warming up", *parts])
