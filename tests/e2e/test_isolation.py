"""A user never sees another's memory, whatever they have in common."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightmem_client import Client, Turn
from lightmem_client.errors import LightMemError, NotFoundError

from tests.server_process import ServerProcess

USERS = [f"user-{i}" for i in range(46)] + ["user-1 ", "user-1/x", "default/user-1", "USER-1"]
PLACES = ["Porto", "Lisbon", "Oslo", "Kyoto", "Quito"]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address, api_key=server.key) as client:
        yield client


@pytest.fixture(scope="module")
def ids(client: Client) -> dict[str, set[str]]:
    """50 users with overlapping texts: the same places, the same words, the same sessions."""
    rng = random.Random(7)
    return {
        user: {
            *client.write(
                [Turn(f"I live in {rng.choice(PLACES)}.", speaker="Ana"), Turn("My cat is called Nino.")],
                user_id=user,
                session_id="s",
            ).memory_ids
        }
        for user in USERS
    }


@pytest.mark.parametrize("user", USERS)
def test_a_search_returns_the_users_own_memories_alone(client: Client, ids: dict[str, set[str]], user: str) -> None:
    found = client.retrieve("Where does Ana live, and with which cat?", user_id=user, session_id="s")
    assert {hit.memory.id for hit in found.memories} | {turn.id for turn in found.context} == ids[user]
    assert {memory.id for memory in client.list(user_id=user)} == ids[user]
    assert found.trace is not None
    assert found.trace.matched_count == len(ids[user])


scopes = st.text(st.sampled_from("ab/:*%_ 'é\\"), min_size=1, max_size=4).filter(lambda user: user != "*")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writer=scopes, reader=scopes, session=scopes)
def test_random_scopes_never_cross(client: Client, writer: str, reader: str, session: str) -> None:
    (memory_id,) = client.write(
        [f"The secret word of {writer!r} is heron."], user_id=f"p-{writer}", session_id=session
    ).memory_ids
    found = client.retrieve("What is the secret word?", user_id=f"p-{reader}", session_id=session, include_coarse=True)
    seen = {hit.memory.id for hit in [*found.memories, *found.coarse]} | {turn.id for turn in found.context}
    if reader == writer:
        assert memory_id in seen
        return
    assert memory_id not in seen
    assert memory_id not in {memory.id for memory in client.list(user_id=f"p-{reader}")}
    for call in (client.get, client.delete):
        with pytest.raises(NotFoundError):
            call(memory_id, user_id=f"p-{reader}")
    assert client.get(memory_id, user_id=f"p-{writer}").id == memory_id


def test_the_shared_partition_cannot_be_named(client: Client) -> None:
    with pytest.raises(LightMemError, match="reserved"):
        client.retrieve("What is the secret word?", user_id="*")
