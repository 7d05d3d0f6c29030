"""Any history of what users say alike: shared is what enough of them say now, and no row has words of anything else."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lightmem_server.store import support
from lightmem_server.store.connection import open_connection, to_writer
from lightmem_server.store.protocol import Change
from lightmem_server.store.sharing_protocol import Offer, SharedFact
from lightmem_server.store.sqlite import DATABASE_NAME, SqliteStore
from lightmem_server.types import SHARED_USER, Kind, Memory, Partition, State, Statement, Tier
from tests.contract.store_records import make_memory

SPACES = ("one", "two")
WORDS = ("hiking", "baking")
USER_COUNT = 3

SAY = ["say"] * 8
OTHERWISE = ["delete", "archive", "end", "reword", "reinforce", "withhold", "withdraw", "reopen"]

operations = st.lists(
    st.tuples(
        st.sampled_from(SAY + OTHERWISE),
        st.sampled_from((*SPACES[:1] * 4, SPACES[1])),
        st.integers(0, USER_COUNT - 1),
        st.sampled_from(WORDS),
    ),
    max_size=30,
)
CHANGES: dict[str, dict[str, Any]] = {
    "archive": {"state": State.ARCHIVED},
    "end": {"valid_to": 1},
    "reword": {"statement": Statement("Ana", "likes", "skiing")},
    "reinforce": {"confidence": 0.5},
}


@dataclass
class World:
    """The store beside what it should hold: each user's facts that say something."""

    folder: Path
    store: SqliteStore
    min_users: int
    facts: dict[Partition, dict[str, list[Memory]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    async def offer(self, user: Partition) -> None:
        """As a consolidation run ends: the whole support, then what is due."""
        offers = [
            Offer(fact.id, fact.version, what.encode()) for what, facts in self.facts[user].items() for fact in facts
        ]
        due = await self.store.offer(user, offers, min_users=self.min_users)
        shared = [self.make_shared(key.decode()) for key in due]
        await self.store.share(user.namespace, shared, min_users=self.min_users)

    def make_shared(self, what: str) -> SharedFact:
        memory = make_memory(f"Several users like {what}", tier=Tier.LTM, kind=Kind.FACT)
        return SharedFact(what.encode(), memory, "m", np.ones((1, 2), np.float32))

    async def do(self, what: str, user: Partition, word: str) -> None:
        facts = self.facts[user][word]
        if what == "say":
            fact = make_memory(word, tier=Tier.LTM, kind=Kind.FACT, statement=Statement("Ana", "likes", word))
            await self.store.commit(Change(user, puts=[fact]))
            facts.append(fact)
            await self.offer(user)
        elif what == "reopen":
            await self.store.close()
            await self.store.open()
        elif what == "withhold":
            self.facts[user].pop(word, None)
            await self.offer(user)
        elif what == "withdraw":
            await self.store.close()
            self.withdraw_all(user)
            self.facts.pop(user, None)
            await self.store.open()
        elif facts:
            fact = facts.pop()
            if what == "delete":
                await self.store.commit(Change(user, deletes=[fact.id]))
                return
            changed = replace(fact, version=fact.version + 1, **CHANGES[what])
            await self.store.commit(Change(user, puts=[changed]))
            if what == "reinforce":
                facts.append(changed)

    def withdraw_all(self, user: Partition) -> None:
        """As erasing the user does."""
        connection = open_connection(self.folder / DATABASE_NAME, cache_bytes=1 << 20)
        to_writer(connection)
        with connection:
            number = connection.execute(
                "SELECT partition_id FROM partition WHERE namespace = ? AND user_id = ?", (user.namespace, user.user_id)
            ).get
            count = support.withdraw_all(connection, -1 if number is None else int(str(number)))
        assert count == sum(bool(facts) for facts in self.facts[user].values())
        connection.close()

    async def check(self) -> None:
        for space in SPACES:
            supporters = {
                word: sum(bool(facts[word]) for user, facts in self.facts.items() if user.namespace == space)
                for word in WORDS
            }
            enough = {word for word, count in supporters.items() if count >= self.min_users}
            rows = (await self.store.changes_since(Partition(space, SHARED_USER), None)).rows
            assert sorted(row.memory.text for row in rows) == sorted(f"Several users like {word}" for word in enough)
            assert all(not row.memory.evidence_ids for row in rows)


async def run(folder: Path, history: list[tuple[str, str, int, str]], min_users: int) -> None:
    store = SqliteStore(folder)
    await store.open()
    world = World(folder, store, min_users)
    for what, space, number, word in history:
        await world.do(what, Partition(space, f"user {number}"), word)
        await world.check()
    assert await store.check() == []
    await store.close()


@given(history=operations, min_users=st.integers(2, 3))
@settings(max_examples=60, deadline=None)
def test_what_is_shared_is_what_enough_users_say_now(history: list[tuple[str, str, int, str]], min_users: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), history, min_users))
