"""What users share, through a real server with the real models and rules for a Writer: all of it from outside."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from lightmem_client import Client, RetrieveResult, Turn
from lightmem_client.errors import NotFoundError

from tests.server_process import ENDED_SECONDS, ServerProcess

SETTINGS = ("--shared-memory", "on", "--shared-min-users", "3", "--writer", "lite")
USERS = ("anna", "bert", "cleo", "dora")
PLANTED = (
    "I love Quentin Harrow.",
    "I love quentin.",
    "I love @zorblax.",
    "I love zorblax.example/page.",
    "I love 212-555-0199.",
    "I love elderberry lane.",
    "I love quentin@harrow.example.",
    "I love being a lepidopterist.",
    "I work as a lepidopterist.",
    "I live in Harrowgate.",
    "I'm allergic to walnuts.",
)
WORDS = ("quentin", "harrow", "zorblax", "555", "elderberry", "lepidopterist", "walnut")
TASTES = "I love hiking. I love rock music."


class House:
    """A data folder, and the server on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids: dict[str, list[str]] = {}

    def open(self) -> ServerProcess:
        return ServerProcess(self.folder, *SETTINGS)

    def client(self, server: ServerProcess) -> Client:
        return Client(server.address, api_key=server.key)

    def say(self, client: Client, user: str, *texts: str) -> None:
        turns = [Turn(text, speaker=user.title()) for text in texts]
        self.ids[user] = list(client.write(turns, user_id=user, session_id=f"talk of {user}").memory_ids)
        last = list(client.consolidate(user_id=user, timeout_seconds=ENDED_SECONDS))[-1]
        assert last.stage == "done"

    def rows(self) -> str:
        """All that is stored of the shared partition."""
        with closing(sqlite3.connect(f"file:{self.folder / 'lightmem.db'}?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT * FROM memory JOIN partition USING (partition_id) WHERE user_id = '*'"
            ).fetchall()
        return repr(rows).lower()

    def holds(self, text: bytes) -> bool:
        """Whether any file has these bytes."""
        return any(text in file.read_bytes() for file in self.folder.iterdir() if file.is_file())


def ask(client: Client, query: str, user: str = "zoe") -> RetrieveResult:
    return client.retrieve(query, user_id=user, deadline_seconds=10, min_relevance=0.0)


def told(answer: RetrieveResult) -> list[str]:
    return [hit.memory.text for hit in answer.shared_memories]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, models: None) -> House:
    return House(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def shared(house: House) -> Iterator[tuple[ServerProcess, Client]]:
    """A server on which four users told of tastes, and of themselves."""
    with house.open() as server, house.client(server) as client:
        house.say(client, "quentin", "Good morning.")
        for user in USERS[:2]:
            house.say(client, user, TASTES, *PLANTED)
        assert told(ask(client, "Do other users like hiking?")) == []
        assert "hiking" not in house.rows()
        for user in USERS[2:]:
            house.say(client, user, TASTES, *PLANTED)
        yield server, client


@pytest.fixture
def client(shared: tuple[ServerProcess, Client]) -> Client:
    return shared[1]


def test_what_enough_users_say_is_told_to_everybody_and_labelled(client: Client) -> None:
    client.write(["I went to the dentist."], user_id="zoe")
    answer = ask(client, "Do other users like hiking?")
    (hit,) = answer.shared_memories
    assert (hit.memory.text, hit.shared_by_at_least) == ("Several users like hiking", 3)
    assert (hit.memory.user_id, hit.memory.evidence_ids, hit.memory.access_count) == ("", (), 0)
    assert "Several users like hiking" in answer.packed_context
    assert hit.memory.id in {candidate.memory_id for candidate in answer.trace.shared_candidates}
    assert [memory.memory.text for memory in answer.memories] == ["I went to the dentist."]
    assert client.stats().shared_fact_count == 2
    assert client.stats(user_id="zoe").shared_fact_count == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("What do people like to do outdoors?", ["Several users like hiking"]),
        ("What kind of music do people like?", ["Several users like rock music"]),
        ("Where does Ana live?", []),
        ("What should we offer to drink?", []),
    ],
)
def test_only_what_answers_is_told(client: Client, query: str, expected: list[str]) -> None:
    assert told(ask(client, query)) == expected


def test_nothing_that_could_lead_to_somebody_is_stored_or_told(client: Client, house: House) -> None:
    rows = house.rows()
    assert "hiking" in rows
    answers = [
        ask(client, query)
        for query in ("Who is a lepidopterist?", "Do users like Quentin Harrow?", "What is the phone number?", *PLANTED)
    ]
    seen = repr([(answer.shared_memories, answer.trace.shared_candidates) for answer in answers]).lower()
    for word in (*WORDS, *USERS, *(id_ for ids in house.ids.values() for id_ in ids)):
        assert word not in rows
        assert word not in seen or word.isdigit()  # scores have digits, too


def test_a_shared_fact_is_not_there_for_any_other_call(client: Client) -> None:
    (hit,) = ask(client, "Do other users like hiking?").shared_memories
    calls: list[Callable[[str], object]] = [
        lambda id_: client.get(id_, user_id="zoe"),
        lambda id_: client.delete(id_, user_id="anna"),
        lambda id_: client.update(id_, user_id="zoe", is_pinned=True),
        lambda id_: client.history(id_, user_id="zoe"),
        lambda id_: client.explain("hiking", id_, user_id="zoe"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError):
            call(hit.memory.id)
    assert hit.memory.id not in {memory.id for user in (*USERS, "zoe") for memory in client.list(user_id=user)}


def test_support_outlives_a_crash_and_what_is_withdrawn_is_gone_from_the_files(
    shared: tuple[ServerProcess, Client], house: House
) -> None:
    server, _ = shared
    server.kill()
    with house.open() as again, house.client(again) as client:
        assert told(ask(client, "Do other users like hiking?")) == ["Several users like hiking"]
        client.delete(house.ids["anna"][0], user_id="anna")
        assert told(ask(client, "Do other users like hiking?")) == ["Several users like hiking"]
        client.delete(house.ids["bert"][0], user_id="bert")
        assert told(ask(client, "Do other users like hiking?")) == []
        assert client.stats().shared_fact_count == 0
    assert "hiking" not in house.rows()
    assert not house.holds(b"Several users like hiking")
