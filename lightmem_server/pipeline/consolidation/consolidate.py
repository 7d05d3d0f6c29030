"""The work of a consolidation run, a list of stages:

    select ─▶ for each episode with something new: summarise ─▶ facts (Writer, gate) ─▶ integrate ─▶ profile ─▶ forget ─▶ share

What the Writer gave for a window or an episode is a step, kept until the run ends (asking.py): a run that was interrupted does
not ask again. What is made of it is committed episode by episode. Without a Writer the same stages run on rules.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, tzinfo

import numpy as np
import uuid_utils.compat
from numpy.typing import NDArray

from lightmem_server.errors import NotFoundError, VersionMismatchError
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.asking import AT_ONCE, Asking
from lightmem_server.pipeline.consolidation.confidence import has_faded
from lightmem_server.pipeline.consolidation.denials import find_denials_aside
from lightmem_server.pipeline.consolidation.gate import statement
from lightmem_server.pipeline.consolidation.integrate import Integrator
from lightmem_server.pipeline.consolidation.model import Episode, Summary, Utterance, WindowOutcome
from lightmem_server.pipeline.consolidation.normalise import normalise
from lightmem_server.pipeline.consolidation.profile import Profile, make_profiles, same_facts
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt
from lightmem_server.pipeline.consolidation.run import RunHandle
from lightmem_server.pipeline.consolidation.selection import Selection, select
from lightmem_server.pipeline.consolidation.sharing import Sharing, count_refusals
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
        at_once: int = AT_ONCE,
    ) -> None:
        """
        Args:
            writer: None: profile `lite`, by rules alone.
            foreground: The online requests that each step stands aside for; None: none.
            embedding: The identity that vectors are stored under.
            zone: Where the users' days begin.
            at_once: Texts that the Writer is asked for together.
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
        self.at_once = at_once
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
        self._asking = Asking(
            run,
            server.selector,
            server.writer,
            facts_prompt=server.facts_prompt,
            summary_prompt=server.summary_prompt,
            clock=server.clock,
            zone=server.zone,
            stand_aside=server.stand_aside,
            at_once=server.at_once,
        )

    async def do(self) -> None:
        """All stages."""
        selection = await self._select()
        episodes, ahead = selection.episodes, 0
        for done, episode in enumerate(episodes):
            await self._report("abstract", done, len(episodes))
            if done >= ahead:
                ahead = done + await self._asking.ask_ahead(episodes[done:], selection)
            if await self._run.load_step("integrate", episode.identity) is not None:
                continue
            await self._server.stand_aside()
            utterances = await asyncio.to_thread(normalise, episode.turns, self._server.zone)
            summary, found = await self._asking.ask(episode, utterances, selection)
            self._count(found or ())
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

    def _count(self, found: Sequence[WindowOutcome]) -> None:
        for outcome in found:
            self._kept += len(outcome.kept)
            self._rejected.update({str(reason): count for reason, count in outcome.reasons.items()})
            if outcome.malformed:
                self._rejected["malformed"] += outcome.malformed

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
                for denial, text in await find_denials_aside([said], known, self._relations):
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
