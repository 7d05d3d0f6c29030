"""What every store keeps of the LTM that users share: nothing below enough users, and nothing once too few are left."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightmem_server.errors import NotFoundError
from lightmem_server.store.protocol import Change, SnapshotRecord, Store
from lightmem_server.store.sharing_protocol import Offer, SharedFact
from lightmem_server.types import SHARED_USER, Kind, Memory, Partition, State, Statement, Tier
from tests.contract.store_records import MakeStore, make_change, make_id, make_memory

SPACE = "default"
SHARED = Partition(SPACE, SHARED_USER)
USERS = [Partition(SPACE, f"user {number}") for number in range(4)]
HIKING, BAKING = b"hiking", b"baking"
LEAST = 3


def make_fact(what: str = "hiking", **fields: Any) -> Memory:
    values: dict[str, Any] = {
        "tier": Tier.LTM,
        "kind": Kind.FACT,
        "statement": Statement("Ana", "likes", what),
    }
    return make_memory(f"Ana likes {what}", **(values | fields))


def make_shared(key: bytes) -> SharedFact:
    memory = make_memory(f"Several users like {key.decode()}", tier=Tier.LTM, kind=Kind.FACT)
    return SharedFact(key, memory, "m", np.ones((2, 4), np.float32))


def offer_of(fact: Memory, key: bytes = HIKING) -> Offer:
    return Offer(fact.id, fact.version, key)


async def tell(store: Store, user: Partition, *, key: bytes = HIKING) -> tuple[Memory, list[bytes]]:
    """A user's fact, offered, and what is due then."""
    fact = make_fact(key.decode())
    await store.commit(make_change([fact], partition=user))
    return fact, await store.offer(user, [offer_of(fact, key)], min_users=LEAST)


async def shared(store: Store) -> list[str]:
    return [row.memory.text for row in (await store.changes_since(SHARED, None)).rows]


async def share_hiking(store: Store, users: Sequence[Partition] = USERS[:3]) -> list[Memory]:
    facts = [(await tell(store, user))[0] for user in users]
    assert await store.share(SPACE, [make_shared(HIKING)], min_users=LEAST) == 1
    return facts


async def test_nothing_is_due_before_enough_users_say_it(store: Store) -> None:
    for user in USERS[:2]:
        assert (await tell(store, user))[1] == []
    assert await store.share(SPACE, [make_shared(HIKING)], min_users=LEAST) == 0
    assert await shared(store) == []
    assert (await tell(store, USERS[2]))[1] == [HIKING]


async def test_one_user_counts_once_however_often_it_says_it(store: Store) -> None:
    facts = [make_fact() for _ in range(5)]
    await store.commit(make_change(facts, partition=USERS[0]))
    assert await store.offer(USERS[0], [offer_of(fact) for fact in facts], min_users=LEAST) == []


async def test_users_of_another_namespace_do_not_count(store: Store) -> None:
    await tell(store, USERS[0])
    await tell(store, USERS[1])
    assert (await tell(store, Partition("other", "user 2")))[1] == []


async def test_what_is_due_is_shared_once(store: Store) -> None:
    await share_hiking(store)
    assert await store.share(SPACE, [make_shared(HIKING)], min_users=LEAST) == 0
    assert (await tell(store, USERS[3]))[1] == []
    assert await shared(store) == ["Several users like hiking"]
    (row,) = (await store.changes_since(SHARED, None)).rows
    assert row.vector is not None


async def test_concurrent_shares_of_one_key_store_it_once(store: Store) -> None:
    for user in USERS[:3]:
        await tell(store, user)
    counts = await asyncio.gather(*(store.share(SPACE, [make_shared(HIKING)], min_users=LEAST) for _ in range(8)))
    assert sorted(counts) == [0] * 7 + [1]
    assert len(await shared(store)) == 1


HOW: dict[str, Any] = {
    "archived": {"state": State.ARCHIVED},
    "ended": {"valid_to": 5},
    "limited": {"expires_at": 5},
    "reworded": {"statement": Statement("Ana", "likes", "skiing")},
    "retold": {"statement": Statement("Ana", "dislikes", "hiking")},
}


@pytest.mark.parametrize("how", HOW)
async def test_a_fact_that_no_longer_says_so_takes_its_support_along(store: Store, how: str) -> None:
    facts = await share_hiking(store)
    await store.commit(Change(USERS[0], puts=[replace(facts[0], version=2, **HOW[how])]))
    assert await shared(store) == []


async def test_a_deleted_fact_takes_its_support_along(store: Store) -> None:
    facts = await share_hiking(store)
    before = (await store.changes_since(SHARED, None)).version
    await store.commit(Change(USERS[0], deletes=[facts[0].id]))
    changes = await store.changes_since(SHARED, before)
    assert (changes.version, len(changes.rows), len(changes.removed_ids)) == (before + 1, 0, 1)


async def test_a_fact_that_is_reinforced_goes_on_supporting(store: Store) -> None:
    facts = await share_hiking(store)
    await store.commit(Change(USERS[0], puts=[replace(facts[0], version=2, confidence=0.9, is_pinned=True)]))
    assert len(await shared(store)) == 1


async def test_support_that_is_left_keeps_a_shared_fact(store: Store) -> None:
    facts = await share_hiking(store, USERS)
    await store.commit(Change(USERS[0], deletes=[facts[0].id]))
    assert len(await shared(store)) == 1
    await store.commit(Change(USERS[1], deletes=[facts[1].id]))
    assert await shared(store) == []


async def test_a_user_with_two_such_facts_supports_until_both_are_gone(store: Store) -> None:
    await tell(store, USERS[1])
    await tell(store, USERS[2])
    two = [make_fact(), make_fact()]
    await store.commit(make_change(two, partition=USERS[0]))
    await store.offer(USERS[0], [offer_of(fact) for fact in two], min_users=LEAST)
    await store.share(SPACE, [make_shared(HIKING)], min_users=LEAST)
    await store.commit(Change(USERS[0], deletes=[two[0].id]))
    assert len(await shared(store)) == 1
    await store.commit(Change(USERS[0], deletes=[two[1].id]))
    assert await shared(store) == []


async def test_an_offer_replaces_the_one_before(store: Store) -> None:
    facts = await share_hiking(store)
    assert await store.offer(USERS[0], [offer_of(facts[0], BAKING)], min_users=LEAST) == []
    assert await shared(store) == []
    assert await store.offer(USERS[0], [offer_of(facts[0])], min_users=LEAST) == [HIKING]
    assert await store.share(SPACE, [make_shared(HIKING)], min_users=LEAST) == 1


@pytest.mark.parametrize("fact", [*HOW, "of another version", "gone", "a turn"])
async def test_what_does_not_hold_cannot_be_offered(store: Store, fact: str) -> None:
    await tell(store, USERS[0])
    await tell(store, USERS[1])
    told = make_fact(**HOW.get(fact, {"kind": Kind.TURN} if fact == "a turn" else {}))
    if fact in ("reworded", "retold"):
        told = make_fact(version=1)
        await store.commit(make_change([told], partition=USERS[2]))
        await store.commit(Change(USERS[2], puts=[replace(told, version=2, **HOW[fact])]))
    elif fact != "gone":
        await store.commit(make_change([told], partition=USERS[2]))
    version = 7 if fact == "of another version" else 1
    assert await store.offer(USERS[2], [Offer(told.id, version, HIKING)], min_users=LEAST) == []


async def test_another_users_fact_cannot_be_offered(store: Store) -> None:
    fact, _ = await tell(store, USERS[0])
    for user in USERS[1:]:
        assert await store.offer(user, [offer_of(fact)], min_users=LEAST) == []


async def test_what_was_withdrawn_can_be_shared_again(store: Store) -> None:
    facts = await share_hiking(store)
    await store.commit(Change(USERS[0], deletes=[facts[0].id]))
    assert (await tell(store, USERS[0]))[1] == [HIKING]
    assert await store.share(SPACE, [make_shared(HIKING)], min_users=LEAST) == 1


async def test_a_commit_that_fails_withdraws_nothing(store: Store) -> None:
    facts = await share_hiking(store)
    with pytest.raises(NotFoundError):
        await store.commit(Change(USERS[0], deletes=[facts[0].id, make_id()]))
    assert len(await shared(store)) == 1


async def test_retracting_takes_everybodys_support_along(store: Store) -> None:
    await share_hiking(store)
    (row,) = (await store.changes_since(SHARED, None)).rows
    assert await store.retract(SPACE, [row.memory.id, uuid.UUID(int=2**100)]) == 1
    assert await shared(store) == []
    assert await store.share(SPACE, [make_shared(HIKING)], min_users=1) == 0


async def test_erasing_a_user_withdraws_all_of_their_support(store: Store) -> None:
    await share_hiking(store)
    facts = [make_fact("hiking"), make_fact("baking"), make_fact("baking")]
    await store.commit(make_change(facts, partition=USERS[0]))
    offers = [offer_of(facts[0]), offer_of(facts[1], BAKING), offer_of(facts[2], BAKING)]
    await store.offer(USERS[0], offers, min_users=LEAST)
    assert (await store.erase(USERS[0], now=7)).withdrawn_support_count == 2
    assert await shared(store) == []
    assert (await store.erase(USERS[0], now=8)).withdrawn_support_count == 0
    assert (await store.erase(USERS[1], now=9)).withdrawn_support_count == 1
    assert await store.check() == []


async def test_a_higher_bar_deletes_what_is_below_it(store: Store) -> None:
    await share_hiking(store)
    assert await store.require_support(LEAST) == 0
    assert await store.require_support(LEAST + 1) == 1
    assert await shared(store) == []


async def test_a_lower_bar_lets_shared_facts_live_longer(store: Store) -> None:
    facts = await share_hiking(store)
    await store.require_support(2)
    await store.commit(Change(USERS[0], deletes=[facts[0].id]))
    assert len(await shared(store)) == 1


async def test_support_survives_closing(make_store: MakeStore) -> None:
    store = make_store()
    await store.open()
    facts = [(await tell(store, user))[0] for user in USERS[:3]]
    await store.close()
    store = make_store()
    await store.open()
    assert await store.share(SPACE, [make_shared(HIKING)], min_users=LEAST) == 1
    await store.commit(Change(USERS[0], deletes=[facts[0].id]))
    assert await shared(store) == []
    assert await store.check() == []
    await store.close()


async def test_a_snapshot_does_not_keep_what_was_withdrawn(store: Store) -> None:
    facts = await share_hiking(store)
    version = (await store.changes_since(SHARED, None)).version
    assert await store.save_snapshot(SHARED, SnapshotRecord(version, "i", b"hiking"))
    await store.commit(Change(USERS[0], deletes=[facts[0].id]))
    assert await store.load_snapshot(SHARED) is None
    assert not await store.save_snapshot(SHARED, SnapshotRecord(version, "i", b"hiking"))


async def test_names_are_those_of_users_agents_speakers_participants_and_relatives(store: Store) -> None:
    turn = make_memory(agent_id="coach bot", speaker="Ana Ruiz")
    summary = make_memory(kind=Kind.SUMMARY, participants=("Bo", "Cy"))
    sister = make_fact(statement=Statement("Dee", "family", "sister Eve"))
    other = make_fact(statement=Statement("Fay's aunt", "likes", "Gouda"))
    await store.commit(make_change([turn, summary, sister, other], partition=USERS[0]))
    await store.commit(make_change([make_memory(speaker="Hal")], partition=Partition("other", "ivy")))
    await store.commit(make_change([make_memory(speaker="Jo")], partition=SHARED))
    told = await store.names(SPACE, relations=["family"])
    assert told.names == {"user 0", "coach bot", "Ana Ruiz", "Bo", "Cy", "Dee", "Fay's aunt"}
    assert told.objects == {"sister Eve"}
