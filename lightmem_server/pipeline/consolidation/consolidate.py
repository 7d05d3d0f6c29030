"""The work of a consolidation run, a list of stages:

    select ─▶ for each episode with something new: summarise ─▶ facts (Writer, gate) ─▶ integrate ─▶ profile ─▶ forget ─▶ share

What the Writer gave for a window or an episode is a step, kept until the run ends: a run that was interrupted does not ask
again. It is asked ahead, about several episodes at once, because it writes eight texts in the time of three. What is made of it
is committed episode by episode. Without a Writer the same stages run on rules.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from typing import Any

import numpy as np
import uuid_utils.compat
from numpy.typing import NDArray

from lightmem_server.errors import NotFoundError, VersionMismatchError
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation import outcomes
from lightmem_server.pipeline.consolidation.confidence import has_faded
from lightmem_server.pipeline.consolidation.denials import find_denials
from lightmem_server.pipeline.consolidation.facts import find_facts
from lightmem_server.pipeline.consolidation.gate import statement
from lightmem_server.pipeline.consolidation.integrate import Integrator
from lightmem_server.pipeline.consolidation.model import Episode, Summary, Utterance, Window, WindowOutcome
from lightmem_server.pipeline.consolidation.normalise import normalise
from lightmem_server.pipeline.consolidation.profile import Profile, make_profiles, same_facts
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt
from lightmem_server.pipeline.consolidation.run import RunHandle
from lightmem_server.pipeline.consolidation.selection import Selection, select
from lightmem_server.pipeline.consolidation.sharing import Sharing, count_refusals
from lightmem_server.pipeline.consolidation.summaries import summarise
from lightmem_server.pipeline.consolidation.telling import find_telling
from lightmem_server.pipeline.consolidation.windows import cut_windows
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.slm.foreground import Foreground
from lightmem_server.slm.prompt import Prompt
from lightmem_server.slm.protocols import Embedder, Selector, Writer
from lightmem_server.store.protocol import Change, Store, VectorRecord
from lightmem_server.types import Kind, Memory, State, Statement, Tier

LITE = "lite"
"""Names the rules that stand in for a Writer."""

PROFILE = "profile"
"""Relation in the statement of a profile."""

LONGEST_ASIDE_SECONDS = 0.5
"""How long a step waits for online requests to end: on a server that is never idle a run still does two steps a second."""

AT_ONCE = 32
"""Texts that the Writer is asked for together: enough for it to find some with prompts of the same length, and few enough not
to spend much more model time than the namespace has left."""

ATTEMPTS = 4
"""How often an episode is integrated anew when its records are changed meanwhile."""


class StagedConsolidator:
    """The Consolidator of one server; see run.Consolidator."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        selector: Selector,
        writer: Writer | None,
        *,
        embedding: str,
        clock: Clock,
        facts_prompt: FactsPrompt,
        summary_prompt: Prompt,
        zone: tzinfo = UTC,
        foreground: Foreground | None = None,
        min_shared_users: int | None = None,
    ) -> None:
        """
        Args:
            writer: None: profile `lite`, by rules alone.
            foreground: The online requests that each step stands aside for; None: none.
            embedding: The identity that vectors are stored under.
            zone: Where the users' days begin.
            min_shared_users: How many users have to say the same for it to be shared; None: nothing is.
        """
        self.store = store
        self.embedder = embedder
        self.selector = selector
        self.writer = writer
        self.embedding = embedding
        self.clock = clock
        self.facts_prompt = facts_prompt
        self.summary_prompt = summary_prompt
        self.zone = zone
        self._foreground = foreground
        self.sharing = None
        if min_shared_users is not None:
            self.sharing = Sharing(
                store,
                embedder,
                embedding=embedding,
                clock=clock,
                relations=facts_prompt.by_name,
                min_users=min_shared_users,
            )

    @property
    def model(self) -> str:
        """See Consolidator."""
        return LITE if self.writer is None else self.writer.identity

    @property
    def prompt(self) -> str:
        """See Consolidator."""
        return f"{self.facts_prompt.version}/{self.summary_prompt.version}"

    async def stand_aside(self) -> None:
        """Let online requests have the event loop before the next step, a few milliseconds of rules."""
        if self._foreground is not None:
            await self._foreground.idle(LONGEST_ASIDE_SECONDS)

    async def run(self, run: RunHandle) -> None:
        """See Consolidator."""
        await _Work(self, run).do()


class _Work:
    """One run at work."""

    def __init__(self, server: StagedConsolidator, run: RunHandle) -> None:
        self._server = server
        self._run = run
        self._relations = server.facts_prompt.by_name
        self._kept = 0
        self._rejected: Counter[str] = Counter()
        self._told: set[uuid.UUID] = set()
        self._ahead = 0
        """Episodes from the front that the Writer was asked about."""
        self._tokens = 0
        """Read and written, and not accounted for yet."""

    async def do(self) -> None:
        """All stages."""
        selection = await self._select()
        episodes = selection.episodes
        for done, episode in enumerate(episodes):
            if self._server.writer is not None and done >= self._ahead:
                await self._ask_ahead(episodes[done:], selection)
            await self._report("abstract", done, len(episodes))
            if await self._run.load_step("integrate", episode.identity) is not None:
                continue
            await self._server.stand_aside()
            began = self._server.clock.monotonic()
            utterances = await asyncio.to_thread(normalise, episode.turns, self._server.zone)
            summary = await self._summarise(episode, selection)
            found = await self._find_facts(utterances, selection)
            await self._spend(began)
            if summary is None or found is None:
                continue  # a turn was deleted meanwhile; the next run sees its neighbours as changed
            selection = await self._integrate(episode, utterances, summary, found, selection)
        await self._report("integrate", len(episodes), len(episodes))
        await self._tell_profiles(selection)
        await self._forget(selection)
        await self._report("forget", 1, 1)
        if self._server.sharing is not None:
            refused = await self._server.sharing.share(self._run.partition)
            self._rejected += count_refusals(refused, self._told)
            await self._report("share", 1, 1)

    async def _select(self) -> Selection:
        return await select(
            self._server.store, self._run.partition, since=self._run.from_version, embedding=self._server.embedding
        )

    async def _report(self, stage: str, done: int, total: int) -> None:
        await self._run.report(stage, done=done, total=total, kept=self._kept, rejected=dict(self._rejected))

    async def _ask_ahead(self, episodes: Sequence[Episode], selection: Selection) -> None:
        """Have the steps of the next episodes done, some AT_ONCE windows of them; what is done already isn't asked again."""
        windows: list[Window] = []
        summaries: list[Episode] = []
        for episode in episodes:
            if len(windows) >= AT_ONCE or len(summaries) >= AT_ONCE:
                break
            self._ahead += 1
            if await self._run.load_step("integrate", episode.identity) is not None:
                continue
            utterances = await asyncio.to_thread(normalise, episode.turns, self._server.zone)
            windows += await self._cut(utterances, selection)
            summaries.append(episode)
        for start in range(0, len(windows), AT_ONCE):
            await self._together([self._ask(window, selection) for window in windows[start : start + AT_ONCE]])
        await self._together([self._summarise(episode, selection) for episode in summaries])

    async def _together(self, asked: Sequence[Coroutine[Any, Any, object]]) -> None:
        await self._server.stand_aside()
        began = self._server.clock.monotonic()
        tasks = [asyncio.create_task(each) for each in asked]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._spend(began)

    async def _summarise(self, episode: Episode, selection: Selection) -> Summary | None:
        """The episode's summary, from its step if there is one; None: a turn was deleted meanwhile."""
        data = await self._run.load_step("summarise", episode.identity)
        if data:
            return outcomes.read_summary(data)
        server = self._server
        summary = await summarise(
            episode, selection.vectors_of(episode), server.summary_prompt, writer=server.writer, zone=server.zone
        )
        ids = [turn.id for turn in episode.turns]
        data = outcomes.write_summary(summary)
        if not await self._run.save_step("summarise", episode.identity, data, memory_ids=ids):
            return None
        self._tokens += summary.prompt_tokens + summary.tokens
        return summary

    async def _cut(self, utterances: Sequence[Utterance], selection: Selection) -> list[Window]:
        """The windows with something new; a Writer is asked about the turns that can tell something."""
        has_writer = self._server.writer is not None
        telling = await asyncio.to_thread(find_telling, utterances) if has_writer else None
        return [
            window
            for window in cut_windows(utterances, telling=telling)
            if any(said.id in selection.new_ids for said in window.asked)
        ]

    async def _find_facts(self, utterances: Sequence[Utterance], selection: Selection) -> list[WindowOutcome] | None:
        """What each window with something new gave; None: a turn was deleted meanwhile."""
        found = []
        for window in await self._cut(utterances, selection):
            await self._server.stand_aside()
            outcome = await self._ask(window, selection)
            if outcome is None:
                return None
            found.append(outcome)
            self._kept += len(outcome.kept)
            self._rejected.update({str(reason): count for reason, count in outcome.reasons.items()})
            if outcome.malformed:
                self._rejected["malformed"] += outcome.malformed
        return found

    async def _ask(self, window: Window, selection: Selection) -> WindowOutcome | None:
        ids = [said.id for said in window.utterances]
        key = hashlib.sha256(b"".join(id_.bytes for id_ in ids)).hexdigest()[:32]
        data = await self._run.load_step("facts", key)
        if data:
            return outcomes.read_outcome(data)
        server = self._server
        outcome = await find_facts(
            window,
            server.facts_prompt,
            writer=server.writer,
            score=server.selector.judge,
            recalled=selection.recalled_before(window),
        )
        if not await self._run.save_step("facts", key, outcomes.write_outcome(outcome), memory_ids=ids):
            return None
        self._tokens += outcome.prompt_tokens + outcome.tokens
        return outcome

    async def _spend(self, began: float) -> None:
        """Account for what the Writer was asked since the last call."""
        tokens, self._tokens = self._tokens, 0
        if self._server.writer is not None and tokens:
            await self._run.spend(seconds=self._server.clock.monotonic() - began, tokens=tokens)

    async def _integrate(
        self,
        episode: Episode,
        utterances: Sequence[Utterance],
        summary: Summary,
        found: Sequence[WindowOutcome],
        selection: Selection,
    ) -> Selection:
        """One commit for all that an episode tells; the user's records as they are then."""
        for attempt in range(ATTEMPTS):
            change = await self._to_change(episode, utterances, summary, found, selection)
            try:
                await self._run.commit(change, stage="integrate", key=episode.identity)
            except NotFoundError:
                return await self._select()  # a turn was deleted meanwhile
            except VersionMismatchError:
                if attempt == ATTEMPTS - 1:
                    raise
                selection = await self._select()
                continue
            return selection
        raise AssertionError("the loop returns or raises")

    async def _to_change(
        self,
        episode: Episode,
        utterances: Sequence[Utterance],
        summary: Summary,
        found: Sequence[WindowOutcome],
        selection: Selection,
    ) -> Change:
        embedder, known = self._server.embedder, selection.known
        integrator = Integrator(
            known,
            self._relations,
            new_id=uuid_utils.compat.uuid7,
            now=self._server.clock.now(),
            count_tokens=embedder.tokens.count,
        )
        proposals = [proposal for outcome in found for proposal in outcome.kept]
        vectors = await embedder.embed_passages([statement(proposal, self._relations) for proposal in proposals])
        # Turn by turn, as it was said: a turn may take back what an earlier one told.
        for said in utterances:
            for proposal, vector in zip(proposals, vectors, strict=True):
                if proposal.evidence_ids[0] == said.id:
                    integrator.add(proposal, said.turn, vector)
            if said.id in selection.new_ids:
                for denial, text in find_denials([said], known, self._relations):
                    integrator.end(denial, text, (await embedder.embed_passages([text]))[0])
        puts, reasons = known.changes()
        self._told |= {fact.id for fact in puts}
        records = [self._to_vector(fact, known.vectors[fact.id]) for fact in puts if fact.version == 1]
        told = self._to_summary(episode, summary, selection.summary_of(episode))
        if told is not None:
            puts, reasons = [*puts, told], {**reasons, told.id: "summarise"}
            records += await self._to_vectors([told])
        return Change(self._run.partition, puts=puts, vectors=records, reasons=reasons)

    async def _to_vectors(self, memories: Sequence[Memory]) -> list[VectorRecord]:
        vectors = await self._server.embedder.embed_passages([memory.text for memory in memories])
        return [self._to_vector(memory, vector) for memory, vector in zip(memories, vectors, strict=True)]

    def _to_vector(self, memory: Memory, vector: NDArray[np.float32]) -> VectorRecord:
        """Nothing precedes a derived record: it looks the same in every view."""
        return VectorRecord(memory.id, self._server.embedding, np.stack([vector] * len(VIEW_NAMES)))

    def _to_summary(self, episode: Episode, summary: Summary, earlier: Memory | None) -> Memory | None:
        """The summary's record: a new one, or the one that told of these turns so far, told anew; None: it needs none."""
        last = episode.turns[-1]
        told = earlier or self._record(Tier.MTM, Kind.SUMMARY, summary.text, last)
        told = replace(
            told,
            text=summary.text,
            occurred_at=last.occurred_at,
            participants=tuple(sorted({turn.speaker for turn in episode.turns if turn.speaker})),
            evidence_ids=tuple(turn.id for turn in episode.turns),
            token_count=self._server.embedder.tokens.count(summary.text),
            state=State.ACTIVE,
        )
        if told == earlier or not summary.text:
            return None
        return told if earlier is None else replace(told, version=earlier.version + 1)

    def _record(self, tier: Tier, kind: Kind, text: str, last: Memory) -> Memory:
        return Memory(
            id=uuid_utils.compat.uuid7(),
            tier=tier,
            kind=kind,
            text=text,
            occurred_at=last.occurred_at,
            created_at=self._server.clock.now(),
            agent_id=last.agent_id,
            session_id=last.session_id,
            token_count=self._server.embedder.tokens.count(text),
        )

    async def _tell_profiles(self, selection: Selection) -> None:
        """Write the profiles that changed; archive those of which too little is left."""
        profiles = make_profiles(selection.known, self._relations, now=self._server.clock.now())
        stored = {memory.statement.subject: memory for memory in selection.profiles if memory.statement is not None}
        puts = [put for profile in profiles if (put := self._to_profile(profile, stored.get(profile.subject)))]
        told = {profile.subject for profile in profiles}
        gone = [
            replace(memory, state=State.ARCHIVED, version=memory.version + 1)
            for subject, memory in stored.items()
            if subject not in told and memory.state is State.ACTIVE and not memory.is_pinned
        ]
        if puts or gone:
            change = Change(
                self._run.partition,
                puts=[*puts, *gone],
                vectors=await self._to_vectors(puts),
                reasons={**{put.id: PROFILE for put in puts}, **{put.id: "archive" for put in gone}},
            )
            await self._run.commit(change, stage=PROFILE, key="")

    def _to_profile(self, profile: Profile, stored: Memory | None) -> Memory | None:
        if stored is not None and stored.state is State.ACTIVE and same_facts(profile, stored):
            return None
        newest = max(profile.facts, key=lambda fact: fact.occurred_at)
        told = stored or self._record(Tier.LTM, Kind.PROFILE, profile.text, newest)
        return replace(
            told,
            text=profile.text,
            occurred_at=newest.occurred_at,
            statement=Statement(profile.subject, PROFILE, profile.text),
            confidence=min(fact.confidence for fact in profile.facts),
            evidence_ids=tuple(fact.id for fact in profile.facts),
            token_count=self._server.embedder.tokens.count(profile.text),
            state=State.ACTIVE,
            version=1 if stored is None else stored.version + 1,
        )

    async def _forget(self, selection: Selection) -> None:
        """Archive the facts that faded: said once, long ago, and never asked for. Those that ended stay: only `as_of` finds
        them."""
        now = self._server.clock.now()
        faded = [
            replace(fact, state=State.ARCHIVED, version=fact.version + 1)
            for fact in selection.known.facts.values()
            if not fact.is_pinned
            and fact.valid_to is None
            and has_faded(fact.confidence, now - max(fact.created_at, fact.last_accessed_at or 0))
        ]
        if faded:
            change = Change(self._run.partition, puts=faded, reasons={fact.id: "fade" for fact in faded})
            await self._run.commit(change, stage="forget", key="")
