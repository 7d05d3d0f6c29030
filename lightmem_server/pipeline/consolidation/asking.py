"""What a Writer, or the rules, give for the windows and episodes of a run: each a step, kept until the run ends, so that a run
that was interrupted does not ask again.

A Writer is asked ahead, about several episodes at once: it writes eight texts in the time of three.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import tzinfo
from typing import Any

from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation import outcomes
from lightmem_server.pipeline.consolidation.facts import find_facts
from lightmem_server.pipeline.consolidation.model import Episode, Summary, Utterance, Window, WindowOutcome
from lightmem_server.pipeline.consolidation.normalise import normalise
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt
from lightmem_server.pipeline.consolidation.run import RunHandle
from lightmem_server.pipeline.consolidation.selection import Selection
from lightmem_server.pipeline.consolidation.summaries import summarise
from lightmem_server.pipeline.consolidation.telling import find_telling
from lightmem_server.pipeline.consolidation.windows import cut_windows
from lightmem_server.slm.prompt import Prompt
from lightmem_server.slm.protocols import Selector, Writer

AT_ONCE = 32
"""Texts that the Writer is asked for together: enough for it to find some with prompts of the same length, and few enough not
to spend much more model time than the namespace has left."""


class Asking:
    """The asking of one run."""

    def __init__(
        self,
        run: RunHandle,
        selector: Selector,
        writer: Writer | None,
        *,
        facts_prompt: FactsPrompt,
        summary_prompt: Prompt,
        clock: Clock,
        zone: tzinfo,
        stand_aside: Callable[[], Awaitable[None]],
        at_once: int = AT_ONCE,
    ) -> None:
        """
        Args:
            writer: None: profile `lite`, by rules alone.
            at_once: Texts that the Writer is asked for together.
            stand_aside: Awaited before each step, for online requests.
        """
        self._run = run
        self._selector = selector
        self._writer = writer
        self._facts_prompt = facts_prompt
        self._summary_prompt = summary_prompt
        self._clock = clock
        self._zone = zone
        self._stand_aside = stand_aside
        self._at_once = at_once
        self._tokens = 0
        """Read and written, and not accounted for yet."""

    async def ask_ahead(self, episodes: Sequence[Episode], selection: Selection) -> int:
        """Have a Writer's steps of the next episodes done, some `at_once` windows; what is done already isn't asked again.

        Returns:
            How many of the episodes are done.

        Raises:
            BudgetSpentError: The namespace's model time is used up; the steps are kept.
        """
        if self._writer is None:
            return len(episodes)
        windows: list[Window] = []
        told: list[Episode] = []
        done = 0
        for episode in episodes:
            if len(windows) >= self._at_once or len(told) >= self._at_once:
                break
            done += 1
            if await self._run.load_step("integrate", episode.identity) is not None:
                continue
            utterances = await asyncio.to_thread(normalise, episode.turns, self._zone)
            windows += await self._cut(utterances, selection)
            told.append(episode)
        for start in range(0, len(windows), self._at_once):
            group = windows[start : start + self._at_once]
            await self._together([self._ask(window, selection) for window in group])
        await self._together([self._summarise(episode, selection) for episode in told])
        return done

    async def ask(
        self, episode: Episode, utterances: Sequence[Utterance], selection: Selection
    ) -> tuple[Summary | None, list[WindowOutcome] | None]:
        """An episode's summary, and what each of its windows with something new gave, from their steps where there are some;
        None: a turn was deleted meanwhile."""
        began = self._clock.monotonic()
        summary = await self._summarise(episode, selection)
        found: list[WindowOutcome | None] = []
        for window in await self._cut(utterances, selection):
            await self._stand_aside()
            found.append(await self._ask(window, selection))
        await self._spend(began)
        whole = [outcome for outcome in found if outcome is not None]
        return summary, whole if len(whole) == len(found) else None

    async def _together(self, asked: Sequence[Coroutine[Any, Any, object]]) -> None:
        await self._stand_aside()
        began = self._clock.monotonic()
        tasks = [asyncio.create_task(each) for each in asked]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._spend(began)

    async def _summarise(self, episode: Episode, selection: Selection) -> Summary | None:
        data = await self._run.load_step("summarise", episode.identity)
        if data:
            return outcomes.read_summary(data)
        summary = await summarise(
            episode, selection.vectors_of(episode), self._summary_prompt, writer=self._writer, zone=self._zone
        )
        ids = [turn.id for turn in episode.turns]
        data = outcomes.write_summary(summary)
        if not await self._run.save_step("summarise", episode.identity, data, memory_ids=ids):
            return None
        self._tokens += summary.prompt_tokens + summary.tokens
        return summary

    async def _cut(self, utterances: Sequence[Utterance], selection: Selection) -> list[Window]:
        """The windows with something new; a Writer is asked about the sentences that can tell something."""
        telling = None if self._writer is None else await asyncio.to_thread(find_telling, utterances)
        return [
            window
            for window in cut_windows(utterances, telling=telling)
            if any(said.id in selection.new_ids for said in window.asked)
        ]

    async def _ask(self, window: Window, selection: Selection) -> WindowOutcome | None:
        ids = [said.id for said in window.utterances]
        key = hashlib.sha256(b"".join(id_.bytes for id_ in ids)).hexdigest()[:32]
        data = await self._run.load_step("facts", key)
        if data:
            return outcomes.read_outcome(data)
        outcome = await find_facts(
            window,
            self._facts_prompt,
            writer=self._writer,
            score=self._selector.judge,
            recalled=selection.recalled_before(window),
        )
        if not await self._run.save_step("facts", key, outcomes.write_outcome(outcome), memory_ids=ids):
            return None
        self._tokens += outcome.prompt_tokens + outcome.tokens
        return outcome

    async def _spend(self, began: float) -> None:
        """Account for what the Writer was asked since the last call."""
        tokens, self._tokens = self._tokens, 0
        if self._writer is not None and tokens:
            await self._run.spend(seconds=self._clock.monotonic() - began, tokens=tokens)
