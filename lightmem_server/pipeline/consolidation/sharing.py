"""The last stage of a run where users share: offers what the user's facts say without them, and shares what enough users say.

    facts of shareable relations ─▶ rules (deidentify.py) ─▶ offer ─▶ enough users? ─▶ names of the whole namespace ─▶ share
    what is shared already       ─▶ names that this user brought ─▶ retract

All of it can be done again at any time: what is offered is the user's whole support, and what is due is found again until it
is shared. So a run that was interrupted needs no step of its own here.

k users are k user ids: whoever may write as k users can have said what they like, and one who may write as k - 1 can tell
that somebody else says the same, though not who. Whoever sees a shared fact vanish knows that somebody took it back.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.confidence import confidence, gate_confidence
from lightmem_server.pipeline.consolidation.deidentify import (
    Claim,
    Refusal,
    find_refusal,
    key_of,
    make_claim,
    name_words,
    wording,
)
from lightmem_server.pipeline.consolidation.normalise import speaker_of
from lightmem_server.pipeline.consolidation.people import RELATIVES
from lightmem_server.pipeline.consolidation.proposals import Relation
from lightmem_server.pipeline.consolidation.words import proper_names, split_words
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.slm.protocols import Embedder
from lightmem_server.store.protocol import Store
from lightmem_server.store.sharing_protocol import Offer, SharedFact
from lightmem_server.store.support import can_support
from lightmem_server.types import SHARED_USER, Kind, Memory, MemoryFilter, Partition, Role, Statement, Tier

SUBJECT = "several users"
"""Of a shared fact's statement."""

DAY_MICROS = 86_400_000_000
MILLISECOND_MICROS = 1000

PAGE = 1000
"""Shared facts that are read at once."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What a user's facts may count for: claims by the fact, and how many were refused, by the rule."""

    claims: Mapping[uuid.UUID, Claim]
    refused: Mapping[uuid.UUID, Refusal]


class Sharing:
    """The shared LTM of one server's namespaces, seen from consolidation."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        *,
        embedding: str,
        clock: Clock,
        relations: Mapping[str, Relation],
        min_users: int,
    ) -> None:
        """
        Args:
            embedding: The identity that vectors are stored under.
            min_users: How many users have to say the same.
        """
        self._store = store
        self._embedder = embedder
        self._embedding = embedding
        self._clock = clock
        self._relations = relations
        self._naming = frozenset(relation.name for relation in relations.values() if relation.is_of_others)
        self._min_users = min_users

    async def share(self, partition: Partition) -> dict[uuid.UUID, Refusal]:
        """Offer a user's facts as they are now, share what is due, take back what has a name of theirs. Returns which facts
        of shareable relations were not offered, and why.

        Raises:
            OverloadedError: A queue is full.
            StoreError.
        """
        memories = [row.memory for row in (await self._store.changes_since(partition, None)).rows]
        facts = [memory for memory in memories if self._is_shareable(memory)]
        names = name_words([partition.user_id, *self._names_of(memories)])
        offered = await asyncio.to_thread(to_offer, partition, memories, facts, names)
        free = [fact for fact in facts if fact.id in offered.claims]
        keys = {fact.id: key_of(self._relation(fact), offered.claims[fact.id]) for fact in free}
        offers = [Offer(fact.id, fact.version, keys[fact.id]) for fact in free]
        due = await self._store.offer(partition, offers, min_users=self._min_users)
        if due:
            said = {keys[fact.id]: fact for fact in free}
            await self._share(partition.namespace, {key: said[key] for key in due}, offered.claims)
        await self._retract(partition.namespace, names)
        return dict(offered.refused)

    def _is_shareable(self, memory: Memory) -> bool:
        if memory.kind is not Kind.FACT or memory.statement is None or not can_support(memory):
            return False
        relation = self._relations.get(memory.statement.relation)
        return relation is not None and bool(relation.shared_as)

    def _relation(self, fact: Memory) -> Relation:
        assert fact.statement is not None, "only facts with a statement are shared"
        return self._relations[fact.statement.relation]

    def _names_of(self, memories: Iterable[Memory]) -> set[str]:
        """Names in one user's records; see `SharingStore.names`."""
        found: set[str] = set()
        for memory in memories:
            found |= {memory.agent_id, memory.speaker, *memory.participants}
            if memory.statement is not None:
                found.add(memory.statement.subject)
                if memory.statement.relation in self._naming:
                    found |= names_in(memory.statement.object)
        return found

    async def _share(self, namespace: str, due: Mapping[bytes, Memory], claims: Mapping[uuid.UUID, Claim]) -> None:
        """Share what is due, but for what somebody in the namespace is called. That is asked last, and only then: it takes
        reading all of it."""
        told = await self._store.names(namespace, relations=self._naming)
        names = name_words([*told.names, *(name for said in told.objects for name in names_in(said))])
        free = {key: fact for key, fact in due.items() if not any(word.base in names for word in claims[fact.id].words)}
        facts = [self._to_memory(fact, claims[fact.id]) for fact in free.values()]
        vectors = await self._embedder.embed_passages([fact.text for fact in facts])
        shared = [
            SharedFact(key, fact, self._embedding, np.stack([vector] * len(VIEW_NAMES)))
            for key, fact, vector in zip(free, facts, vectors, strict=True)
        ]
        if shared:
            await self._store.share(namespace, shared, min_users=self._min_users)

    def _to_memory(self, fact: Memory, claim: Claim) -> Memory:
        """What is shared of a fact: nothing of it but the words of its claim. Times are those of the day: when exactly enough
        users said it tells who was the last."""
        relation, said = self._relation(fact), wording(claim)
        text = relation.shared_as.format(object=said)
        now = self._clock.now()
        today = now - now % DAY_MICROS
        return Memory(
            id=make_id(today),
            tier=Tier.LTM,
            kind=Kind.FACT,
            text=text,
            occurred_at=today,
            created_at=today,
            confidence=confidence(gate_confidence(None), self._min_users),
            statement=Statement(SUBJECT, relation.name, said),
            token_count=self._embedder.tokens.count(text),
        )

    async def _retract(self, namespace: str, names: Collection[str]) -> None:
        """Take back what has a name in it that nobody was known by when it was shared."""
        before: int | None = None
        named: list[uuid.UUID] = []
        while True:
            page = await self._store.list_page(
                Partition(namespace, SHARED_USER),
                MemoryFilter(),
                limit=PAGE,
                before_order=before,
                now=self._clock.now(),
            )
            named += [memory.id for memory in page.memories if _has_name(memory, names)]
            before = page.next_order
            if before is None:
                break
        if named:
            await self._store.retract(namespace, named)


def to_offer(
    partition: Partition, memories: Sequence[Memory], facts: Sequence[Memory], names: Collection[str]
) -> Offered:
    """Judge a user's facts; what the user writes as a name counts as one here."""
    if not facts:
        return Offered({}, {})
    turns = {memory.id: memory for memory in memories if memory.kind is Kind.TURN}
    user = find_user(partition, turns.values())
    written = frozenset(word.base for turn in turns.values() for word in proper_names(turn.text))
    known = written | frozenset(names)
    claims = {
        fact.id: make_claim(fact, [turns[id_] for id_ in fact.evidence_ids if id_ in turns], user, known)
        for fact in facts
    }
    refused = {id_: refusal for id_, claim in claims.items() if (refusal := find_refusal(claim)) is not None}
    return Offered({id_: claim for id_, claim in claims.items() if id_ not in refused}, refused)


def find_user(partition: Partition, turns: Iterable[Memory]) -> str:
    """What the user is called in their conversations: as their id says, or as the only one who speaks; "": it isn't known."""
    speakers = {speaker_of(turn).casefold(): speaker_of(turn) for turn in turns if turn.role in (Role.USER, Role.NONE)}
    wanted = _bases(partition.user_id)
    meant = [name for name in speakers.values() if _bases(name) and _bases(name) <= wanted]
    if len(meant) == 1:
        return meant[0]
    return next(iter(speakers.values())) if len(speakers) == 1 else ""


def names_in(said: str) -> set[str]:
    """The names in what a fact tells of somebody's people: "sister Mia", "tariq"."""
    words = [word for word in split_words(said) if word.base not in RELATIVES]
    return {word.text for word in words if word.is_capitalised or len(words) == 1}


def make_id(at: int) -> uuid.UUID:
    """A UUIDv7 of a moment in microseconds; but for it, it is random."""
    stamp = (at // MILLISECOND_MICROS) << 80
    return uuid.UUID(int=stamp | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62))


def _bases(text: str) -> frozenset[str]:
    return frozenset(word.base for word in split_words(text))


def _has_name(shared: Memory, names: Collection[str]) -> bool:
    return shared.statement is None or any(word.base in names for word in split_words(shared.statement.object))


def count_refusals(refused: Mapping[uuid.UUID, Refusal], told: Collection[uuid.UUID]) -> Counter[str]:
    """How many of the facts that a run told were refused, by rule, beside the gate's reasons."""
    return Counter(f"share_{refusal}" for id_, refusal in refused.items() if id_ in told)
