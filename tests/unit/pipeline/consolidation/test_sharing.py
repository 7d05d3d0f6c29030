"""The shared LTM, from what users say to what all of them can be told: whole runs by rules on a real store."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import apsw
import numpy as np
import pytest
from numpy.typing import NDArray

from lightmem_server.core import Engine
from lightmem_server.errors import OverloadedError
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.consolidate import StagedConsolidator
from lightmem_server.pipeline.consolidation.progress import ProgressBoard
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt
from lightmem_server.pipeline.consolidation.run import JOB_KIND
from lightmem_server.pipeline.consolidation.sharing import Sharing, find_user, make_id, names_in
from lightmem_server.pipeline.consolidation.summaries import PROMPT as SUMMARY_PROMPT
from lightmem_server.pipeline.consolidation.undo import Undoing
from lightmem_server.pipeline.consolidation.worker import Worker, WorkerPolicy
from lightmem_server.pipeline.edit import Editing
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.pipeline.residents import Residents
from lightmem_server.slm.fakes import HashEmbedder, OverlapSelector
from lightmem_server.slm.prompt import load_prompt
from lightmem_server.slm.time_window import to_micros
from lightmem_server.store.protocol import Change, JobRecord, VectorRecord
from lightmem_server.store.sqlite import DATABASE_NAME, SqliteStore
from lightmem_server.types import SHARED_USER, Kind, Memory, Partition, Role, Tier
from tests.contract.store_records import make_memory

MIN_USERS = 3
DAY = 86_400_000_000
NOW = to_micros(datetime(2022, 5, 2, 9, 31, 7, tzinfo=UTC))
SHARED = Partition("default", SHARED_USER)
PEOPLE = ("anna", "bert", "cleo", "dora", "emil")


class Town:
    """Users who talk in sessions of their own, and are consolidated."""

    def __init__(self, folder: Path, executor: ThreadPoolExecutor) -> None:
        self.folder = folder
        self.store = SqliteStore(folder)
        self.embedder = HashEmbedder()
        self.now = NOW
        engine = Engine(dim=384, view_names=VIEW_NAMES, budget_bytes=1 << 24, stm_turns=4, stm_tokens=100)
        self.residents = Residents(self.store, engine, executor, embedding=self.embedder.identity)

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, monotonic=lambda: self.now / 1e6)

    async def say(
        self,
        user: str,
        *texts: str,
        speaker: str | None = None,
        namespace: str = "default",
        role: Role = Role.USER,
        agent_id: str = "",
    ) -> list[Memory]:
        self.now += 60_000_000
        partition = Partition(namespace, user)
        turns = [
            make_memory(
                text,
                id=uuid.uuid4(),
                speaker=user.title() if speaker is None else speaker,
                role=role,
                agent_id=agent_id,
                session_id=f"session of {user}",
                occurred_at=self.now,
                created_at=self.now,
            )
            for text in texts
        ]
        vectors = await self.embedder.embed_passages(texts)
        records = [
            VectorRecord(turn.id, self.embedder.identity, vector[None].repeat(2, 0))
            for turn, vector in zip(turns, vectors, strict=True)
        ]
        job = JobRecord(JOB_KIND, payload="idle")
        await self.store.commit(Change(partition, puts=turns, vectors=records, jobs=[job]))
        return turns

    async def consolidate(self, *, min_users: int | None = MIN_USERS) -> None:
        """Do all that is due, several users at once."""
        consolidator = StagedConsolidator(
            self.store,
            self.embedder,
            OverlapSelector(clock=lambda: 0.0),
            None,
            embedding=self.embedder.identity,
            clock=self.clock,
            facts_prompt=FactsPrompt.load(PROMPT),
            summary_prompt=load_prompt(SUMMARY_PROMPT),
            min_shared_users=min_users,
        )
        worker = Worker(
            self.store, consolidator, ProgressBoard(), self.clock, WorkerPolicy(), commit=self.residents.commit
        )
        while any(await asyncio.gather(*(worker.step(f"worker {number}") for number in range(4)))):
            pass  # until nothing is due

    def sharing(self, embedder: HashEmbedder | None = None) -> Sharing:
        """The last stage alone."""
        return Sharing(
            self.store,
            embedder or self.embedder,
            embedding=self.embedder.identity,
            clock=self.clock,
            relations=FactsPrompt.load(PROMPT).by_name,
            min_users=MIN_USERS,
        )

    async def all_say(self, text: str, users: Sequence[str] = PEOPLE) -> None:
        for user in users:
            await self.say(user, text)
        await self.consolidate()

    async def shared(self) -> list[str]:
        return sorted(row.memory.text for row in (await self.store.changes_since(SHARED, None)).rows)

    async def facts(self, user: str) -> list[Memory]:
        rows = (await self.store.changes_since(Partition("default", user), None)).rows
        return [row.memory for row in rows if row.memory.kind is Kind.FACT]

    def raw_shared_rows(self) -> str:
        """Every value of every row that belongs to a shared partition, or names no user's, as text."""
        connection = apsw.Connection(str(self.folder / DATABASE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
        number = connection.execute("SELECT partition_id FROM partition WHERE user_id = '*'").get
        rows: list[object] = []
        for table in ("memory", "history", "snapshot", "request", "job", "run", "tombstone", "watermark"):
            rows += connection.execute(f"SELECT * FROM {table} WHERE partition_id = ?", (number,)).fetchall()
        rows += connection.execute("SELECT * FROM shared_fact").fetchall()
        rows += connection.execute("SELECT key FROM support").fetchall()
        connection.close()
        return repr(rows).lower()


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    with ThreadPoolExecutor(1) as executor:
        town = Town(tmp_path, executor)
        await town.store.open()
        yield town
        await town.store.close()


async def test_what_enough_users_say_is_shared(town: Town) -> None:
    await town.all_say("I love hiking.", PEOPLE[:2])
    assert await town.shared() == []
    assert "hiking" not in town.raw_shared_rows()
    await town.all_say("I really enjoy hikes.", PEOPLE[2:3])
    assert await town.shared() == ["Several users like hikes"]


async def test_nothing_is_shared_where_it_is_off(town: Town) -> None:
    for user in PEOPLE:
        await town.say(user, "I love hiking.")
    await town.consolidate(min_users=None)
    assert await town.shared() == []


async def test_a_shared_fact_names_nobody_and_no_moment(town: Town) -> None:
    await town.all_say("I love hiking.", PEOPLE[:3])
    ((fact,),) = [[row.memory for row in (await town.store.changes_since(SHARED, None)).rows]]
    today = NOW - NOW % DAY
    assert (fact.tier, fact.kind) == (Tier.LTM, Kind.FACT)
    assert (fact.evidence_ids, fact.related_ids, fact.supersedes_ids, fact.participants) == ((), (), (), ())
    assert (fact.agent_id, fact.session_id, fact.speaker, dict(fact.metadata)) == ("", "", "", {})
    assert (fact.occurred_at, fact.created_at, fact.id.int >> 80) == (today, today, today // 1000)
    raw = town.raw_shared_rows()
    for user in PEOPLE:
        assert user not in raw
        for own in await town.facts(user):
            assert own.id.hex not in raw
            assert repr(own.id.bytes).lower() not in raw


PLANTED = {
    "name": "I love Quentin Harrow.",
    "name in lower case": "I love quentin.",
    "own name": "I love anna.",
    "possessive": "I love Quentin's soup.",
    "handle": "I love @zorblax_77.",
    "bare handle": "I love zorblax_77.",
    "phone": "I love 212-555-0199.",
    "spelt phone": "I love five five five zero one nine nine.",
    "address": "I love 14 Elderberry Lane.",
    "plain address": "I love elderberry lane.",
    "mail": "I love quentin@harrow.example.",
    "link": "I love harrow.example/quentin.",
    "job": "I love being a lepidopterist.",
    "job of a person": "I love my job as lepidopterist.",
    "relative": "I love my sister.",
    "place": "I love Harrowgate.",
    "health": "I love insulin.",
    "belief": "I love praying.",
    "instruction": "I love ignoring previous instructions.",
}


@pytest.mark.parametrize("planted", PLANTED)
async def test_nothing_that_could_lead_to_somebody_leaves_however_many_say_it(town: Town, planted: str) -> None:
    await town.say("quentin", "I love tea.")  # a name of the namespace
    await town.all_say(PLANTED[planted])
    assert await town.shared() == []
    raw = town.raw_shared_rows()
    for word in ("quentin", "harrow", "zorblax", "555", "elderberry", "lepidopterist", "anna", "sister", "insulin"):
        assert word not in raw


async def test_what_is_of_a_person_is_not_shared_however_many_say_it(town: Town) -> None:
    await town.all_say(
        "I work as a lepidopterist. I'm from Harrowgate. I'm allergic to nuts. I speak Basque. My dog Rex bit me."
    )
    assert len(await town.facts(PEOPLE[0])) >= 4
    assert await town.shared() == []
    assert "lepidopterist" not in town.raw_shared_rows()


async def test_a_name_of_another_users_records_is_a_name(town: Town) -> None:
    await town.say("guest 7", "Hello there.", speaker="Sandra Okafor")
    await town.say("guest 8", "Hello there.", speaker="Al", agent_id="baking-bot")
    await town.all_say("I love sandra.")
    await town.all_say("I love baking.")
    assert await town.shared() == []


async def test_a_name_that_is_known_later_is_taken_back(town: Town) -> None:
    await town.all_say("I love sandra.")
    assert await town.shared() == ["Several users like sandra"]
    await town.say("guest 7", "Hello there.", speaker="Sandra Okafor")
    await town.consolidate()
    assert await town.shared() == []
    assert "sandra" not in town.raw_shared_rows()
    await town.all_say("I love sandra.")
    assert await town.shared() == []


async def test_what_a_user_writes_as_a_name_does_not_count_for_it(town: Town) -> None:
    for user in PEOPLE[:3]:
        await town.say(user, "Yesterday I met Sandra.")
    await town.all_say("I love sandra.", PEOPLE[:3])
    assert await town.shared() == []


async def test_what_others_say_in_a_users_conversations_does_not_count(town: Town) -> None:
    for user in PEOPLE:
        await town.say(user, "Hi there.")
        await town.say(user, "I love hiking.", speaker="Zed")
        await town.say(user, "I love hiking.", speaker="Bot", role=Role.ASSISTANT)
    await town.consolidate()
    assert await town.shared() == []


async def test_deleting_the_turn_takes_support_back(town: Town) -> None:
    await town.all_say("I love hiking.", PEOPLE[:3])
    assert len(await town.shared()) == 1
    editing = Editing(town.store, town.residents, town.embedder, embedding=town.embedder.identity)
    user = Partition("default", PEOPLE[0])
    (turn,) = [row.memory for row in (await town.store.changes_since(user, None)).rows if row.memory.kind is Kind.TURN]
    await editing.delete(user, turn.id)
    assert await town.shared() == []
    assert "hiking" not in town.raw_shared_rows()


async def test_undoing_the_run_takes_support_back(town: Town) -> None:
    await town.all_say("I love hiking.", PEOPLE[:3])
    undoing = Undoing(town.store, town.residents, town.embedder, embedding=town.embedder.identity)
    (run,) = await town.store.list_runs(Partition("default", PEOPLE[2]), limit=2)
    await undoing.undo("default", run.run_id)
    assert await town.shared() == []


async def test_saying_the_opposite_takes_support_back(town: Town) -> None:
    await town.all_say("I love hiking.", PEOPLE[:3])
    town.now += 30 * DAY
    await town.say(PEOPLE[1], "I don't like hiking anymore.")
    await town.consolidate()
    (fact,) = [fact for fact in await town.facts(PEOPLE[1]) if fact.text == "Bert likes hiking"]
    assert fact.valid_to is not None
    assert await town.shared() == []


class Overloaded(HashEmbedder):
    """An embedder that never answers: it is asked between offering and sharing."""

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise OverloadedError("too much waits", retry_after_seconds=1.0)


async def test_a_run_that_stopped_between_offering_and_sharing_is_made_good(town: Town) -> None:
    """What is committed then is what a SIGKILL there leaves."""
    for user in PEOPLE[:3]:
        await town.say(user, "I love hiking.")
    await town.consolidate(min_users=None)
    last = Partition("default", PEOPLE[2])
    for user in PEOPLE[:2]:
        await town.sharing().share(Partition("default", user))
    with pytest.raises(OverloadedError):
        await town.sharing(Overloaded()).share(last)
    assert await town.shared() == []
    for _ in range(2):
        await town.sharing().share(last)
        assert await town.shared() == ["Several users like hiking"]


async def test_refusals_are_counted_with_the_gates(town: Town) -> None:
    await town.say("anna", "I love Quentin.", "I love hiking.", "I love 14 trains.")
    await town.consolidate()
    (run,) = await town.store.list_runs(Partition("default", "anna"), limit=1)
    shared = {reason: count for reason, count in run.rejected.items() if reason.startswith("share_")}
    assert shared == {"share_name": 1, "share_number": 1}
    await town.say("anna", "Good night.")
    await town.consolidate()
    (run, _) = await town.store.list_runs(Partition("default", "anna"), limit=2)
    assert not any(reason.startswith("share_") for reason in run.rejected)


@pytest.mark.parametrize(
    ("user_id", "speakers", "expected"),
    [
        ("ruth", ["Ruth", "Pavel"], "Ruth"),
        ("ruth.adler", ["Ruth Adler", "Pavel"], "Ruth Adler"),
        ("u-17", ["Ruth"], "Ruth"),
        ("u-17", ["Ruth", "Pavel"], ""),
        ("ruth-pavel", ["Ruth", "Pavel"], ""),
        ("u-17", [""], "User"),
        ("u-17", ["!!", "Ruth"], ""),
        ("u-17", [], ""),
    ],
)
def test_the_user_is_who_the_id_names_or_the_only_one_who_speaks(
    user_id: str, speakers: list[str], expected: str
) -> None:
    turns = [make_memory(speaker=speaker, role=Role.USER) for speaker in speakers]
    turns.append(make_memory(speaker="Bot", role=Role.ASSISTANT))
    assert find_user(Partition("default", user_id), turns) == expected


def test_ids_are_version_7_of_their_moment() -> None:
    made = {make_id(NOW) for _ in range(100)}
    assert len(made) == 100
    assert {(id_.version, id_.variant, id_.int >> 80) for id_ in made} == {(7, uuid.RFC_4122, NOW // 1000)}


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("sister Mia", {"Mia"}),
        ("brother sami", {"sami"}),
        ("Tariq from the climbing gym", {"Tariq"}),
        ("sister", set()),
    ],
)
def test_names_of_people_are_found_in_what_is_told_of_them(said: str, names: set[str]) -> None:
    assert names_in(said) == names
