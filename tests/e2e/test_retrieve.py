"""Retrieve through a real server: what comes back, in which order, within which budget."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from lightmem_client import (
    Client,
    CoarsePart,
    ContextPart,
    DropReason,
    MemoriesPart,
    MemoryFilter,
    Meta,
    RetrievalTrace,
    Role,
    SelectorMode,
    SelectorStop,
    Tier,
    Turn,
)

from tests.server_process import ServerProcess

MAY = datetime(2023, 5, 8, 13, 0, tzinfo=UTC)
CONVERSATION = [
    ("monday", "Ana", "I finally signed up for the pottery class in Porto.", {"topic": "craft", "rating": 5}),
    ("monday", "Ben", "Nice! Who teaches it?", {}),
    ("monday", "Ana", "Her name is Rosa, she fires everything in a wood kiln.", {"topic": "craft", "rating": 4}),
    ("friday", "Ben", "My sister moved to Oslo for her doctorate in geology.", {"topic": "family", "rating": 3}),
    ("friday", "Ana", "Does she like the cold?", {}),
    ("friday", "Ben", "She says the winters are long but the skiing is great.", {"topic": "family"}),
    ("sunday", "Ana", "We adopted a grey cat and called him Nino.", {"topic": "family", "rating": 5}),
    ("sunday", "Ben", "I sold my motorbike to pay for the roof repair.", {"topic": "money", "is_done": True}),
]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address, api_key=server.key, user_id="retrieve") as client:
        for i, (session, speaker, text, metadata) in enumerate(CONVERSATION):
            day = MAY + timedelta(days=30 * (i // 3), minutes=i)
            client.write(
                [Turn(text, speaker=speaker, occurred_at=day, metadata=metadata)], session_id=session, agent_id="bot"
            )
        yield client


def texts(client: Client, query: str, **options: object) -> list[str]:
    return [hit.memory.text for hit in client.retrieve(query, **options).memories]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("What is the pottery teacher called?", "Her name is Rosa, she fires everything in a wood kiln."),
        ("What does Ben's sister study?", "My sister moved to Oslo for her doctorate in geology."),
        ("How did Ben pay for the roof?", "I sold my motorbike to pay for the roof repair."),
        ("Which pet does Ana have?", "We adopted a grey cat and called him Nino."),
    ],
)
def test_the_answer_is_among_the_first_two(client: Client, query: str, answer: str) -> None:
    assert answer in texts(client, query)[:2]


def test_the_parts_come_in_order(client: Client) -> None:
    parts = list(client.retrieve_stream("Who is Rosa?", session_id="monday", include_coarse=True))
    assert [type(part) for part in parts] == [ContextPart, CoarsePart, MemoriesPart, RetrievalTrace]


def test_an_answer_without_its_trace_is_otherwise_the_same(client: Client) -> None:
    query = "Where did Ben's sister move to?"
    whole, brief = client.retrieve(query), client.retrieve(query, exclude_trace=True)
    assert brief.packed_context == whole.packed_context
    assert [hit.memory.id for hit in brief.memories] == [hit.memory.id for hit in whole.memories]
    assert brief.trace is None
    parts = list(client.retrieve_stream(query, session_id="monday", exclude_trace=True))
    assert [type(part) for part in parts] == [ContextPart, MemoriesPart]
    assert client.explain(query, whole.memories[0].memory.id, exclude_trace=True).reached_stage == "returned"


def test_the_context_is_the_running_conversation_and_is_not_repeated(client: Client) -> None:
    found = client.retrieve("What did we say about pottery?", session_id="monday")
    assert [turn.text for turn in found.context] == [
        text for session, _, text, _ in CONVERSATION if session == "monday"
    ]
    assert {turn.tier for turn in found.context} == {Tier.STM}
    assert not {turn.id for turn in found.context} & {hit.memory.id for hit in found.memories}
    dropped = [candidate for candidate in found.trace.candidates if candidate.drop_reason is DropReason.IN_CONTEXT]
    assert {candidate.memory_id for candidate in dropped} == {turn.id for turn in found.context}


def test_a_query_that_refers_back_is_completed_from_the_conversation(client: Client) -> None:
    for _, speaker, text, _ in CONVERSATION:
        client.write([Turn(text, speaker=speaker)], user_id="refers-back", session_id="before")
    client.write(
        [Turn("I was thinking about Ben's sister again.", speaker="Ana")], user_id="refers-back", session_id="now"
    )
    found = client.retrieve("Where did she move to?", user_id="refers-back", session_id="now")
    assert found.trace.plan.query_views == (
        "Where did she move to?",
        "I was thinking about Ben's sister again. Where did she move to?",
    )
    assert found.memories[0].memory.text == "My sister moved to Oslo for her doctorate in geology."


def test_the_budget_bounds_memories_and_tokens(client: Client) -> None:
    found = client.retrieve("Tell me everything", max_memories=3, max_candidates=5)
    assert len(found.memories) == 3
    assert len(found.trace.candidates) == 5
    small = client.retrieve("Tell me everything", max_tokens=30)
    assert 0 < small.token_count <= 30
    assert sum(hit.token_count for hit in small.memories) <= 30
    assert DropReason.MAX_TOKENS in {candidate.drop_reason for candidate in small.trace.candidates}


def test_the_packed_context_is_chronological_with_dates_and_speakers(client: Client) -> None:
    found = client.retrieve("What happened to Ana and Ben?")
    lines = found.packed_context.splitlines()
    headings = [line for line in lines if line.startswith("[")]
    assert headings[0] == "[2023-05-08 Monday]"
    assert headings == sorted(headings)
    assert lines[1] == "13:00 Ana: I finally signed up for the pottery class in Porto."
    assert len(lines) - len(headings) == len(found.memories)


def test_a_query_that_refers_back_is_completed_by_the_conversation(client: Client) -> None:
    with_session = client.retrieve("And who teaches it?", session_id="monday", exclude_context=True)
    assert "Rosa" in with_session.trace.plan.judged_query
    assert "Her name is Rosa, she fires everything in a wood kiln." in [
        hit.memory.text for hit in with_session.memories[:3]
    ]


def test_explain_says_where_a_memory_was_lost(client: Client) -> None:
    query, budget = "Which pet does Ana have?", {"max_memories": 1, "deadline_seconds": 10}
    found = client.retrieve(query, **budget)
    (first,) = found.memories
    assert client.explain(query, first.memory.id, **budget).reached_stage == "returned"
    lost = next(candidate for candidate in found.trace.candidates if candidate.drop_reason)
    explanation = client.explain(query, lost.memory_id, **budget)
    assert explanation.reached_stage == "select"
    assert "max_memories" in explanation.text
    assert explanation.margin > 0
    assert explanation.trace.selector_stop is SelectorStop.DONE
    best = explanation.trace.candidates[0]
    assert best.score_parts["lexical_window"] > 0


def test_a_deadline_that_is_too_short_cuts_the_selector_and_says_so(client: Client) -> None:
    found = client.retrieve("Who teaches pottery?", deadline_seconds=0.001)
    assert found.trace.is_cut_by_deadline
    assert all(candidate.logit is None for candidate in found.trace.candidates)


def test_the_selector_can_be_off_or_fast(client: Client) -> None:
    off = client.retrieve("Who teaches pottery?", selector_mode=SelectorMode.OFF)
    assert all(candidate.logit is None for candidate in off.trace.candidates)
    assert not off.trace.is_cut_by_deadline
    fast = client.retrieve("Who teaches pottery?", selector_mode=SelectorMode.FAST, deadline_seconds=10)
    assert any(candidate.logit is not None for candidate in fast.trace.candidates)
    assert all(0 < (hit.relevance or 0) < 1 for hit in (*off.memories, *fast.memories))


def test_min_relevance_withholds_what_is_not_relevant(client: Client) -> None:
    found = client.retrieve("What is the capital of Mongolia?", min_relevance=0.99, deadline_seconds=10)
    assert found.memories == ()
    assert found.packed_context == ""
    assert {candidate.drop_reason for candidate in found.trace.candidates} <= {
        DropReason.MIN_RELEVANCE,
        DropReason.DUPLICATE,
    }


def test_a_time_window_lifts_what_was_said_then(client: Client) -> None:
    found = client.retrieve("What did Ben say in June 2023?", asked_at=MAY + timedelta(days=300))
    assert found.trace.plan.window_text == "in June 2023"
    assert found.memories[0].memory.occurred_at.month == 6


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (MemoryFilter(session_ids=["sunday"]), {6, 7}),
        (MemoryFilter(agent_ids=["nobody"]), set()),
        (MemoryFilter(occurred_to=MAY + timedelta(minutes=2)), {0, 1}),
        (MemoryFilter(metadata=Meta("topic") == "craft"), {0, 2}),
        (MemoryFilter(metadata=(Meta("rating") >= 4) & ~(Meta("topic") == "craft")), {6}),
        (MemoryFilter(metadata=(Meta("topic") == "money") | Meta("topic").contains("raft")), {0, 2, 7}),
        (MemoryFilter(metadata=Meta("is_done") == True), {7}),  # noqa: E712
        (MemoryFilter(metadata=Meta("rating").is_in(3, 4)), {2, 3}),
        (MemoryFilter(metadata=Meta("rating") != 5), {2, 3}),
    ],
    ids=["session", "agent", "time", "eq", "and-not", "or-contains", "bool", "in", "ne"],
)
def test_filters_hold_for_search_and_for_list_alike(client: Client, where: MemoryFilter, expected: set[int]) -> None:
    wanted = {CONVERSATION[i][2] for i in expected}
    assert set(texts(client, "Tell me everything", filter=where)) == wanted
    assert {memory.text for memory in client.list(filter=where)} == wanted


def test_listing_is_newest_first_and_pages_fit_together(client: Client) -> None:
    assert [memory.text for memory in client.list(page_size=3)] == [text for _, _, text, _ in reversed(CONVERSATION)]


def test_an_update_changes_what_may_change_and_is_found_by_its_filter(server: ServerProcess) -> None:
    with Client(server.address, api_key=server.key, user_id="update") as client:
        (id_,) = client.write([Turn("The gate code is 4711.", metadata={"kind": "code"})]).memory_ids
        changed = client.update(id_, metadata={"kind": "secret"}, is_pinned=True, expected_version=1)
        assert (changed.version, changed.is_pinned, changed.metadata, changed.text) == (
            2,
            True,
            {"kind": "secret"},
            "The gate code is 4711.",
        )
        assert texts(client, "gate code", filter=MemoryFilter(metadata=Meta("kind") == "secret"))
        assert not texts(client, "gate code", filter=MemoryFilter(metadata=Meta("kind") == "code"))


def test_a_deleted_turn_is_gone_from_search_context_and_the_turns_behind_it(server: ServerProcess) -> None:
    with Client(server.address, api_key=server.key, user_id="delete") as client:
        ids = client.write(
            [Turn("Hello."), Turn("The password is heliotrope. What do you think?"), Turn("Fine."), Turn("Good.")],
            session_id="s",
        ).memory_ids
        client.delete(ids[1])
        assert [turn.id for turn in client.get_context(session_id="s")] == [ids[0], ids[2], ids[3]]
        assert client.get(ids[2]).previous_id == ids[0]
        found = client.retrieve("heliotrope", selector_mode=SelectorMode.OFF)
        assert all(
            not c.source_ranks.get(f"lexical_{view}") for c in found.trace.candidates for view in ("question", "window")
        )


def test_an_expired_memory_is_not_returned(server: ServerProcess) -> None:
    with Client(server.address, api_key=server.key, user_id="expiry") as client:
        past, future = datetime.now(UTC) - timedelta(seconds=1), datetime.now(UTC) + timedelta(days=1)
        client.write([Turn("Old news.", expires_at=past), Turn("Fresh news.", expires_at=future)])
        assert texts(client, "news") == ["Fresh news."]


def test_returned_memories_are_counted(server: ServerProcess) -> None:
    with Client(server.address, api_key=server.key, user_id="access") as client:
        (id_,) = client.write([Turn("The bakery opens at six.")]).memory_ids
        client.retrieve("bakery")
        for _ in range(200):  # counted after the answer: ask until it is
            if client.get(id_).access_count:
                break
        memory = client.get(id_)
        assert memory.access_count == 1
        assert memory.last_accessed_at is not None


def test_roles_and_times_are_kept(server: ServerProcess) -> None:
    with Client(server.address, api_key=server.key, user_id="roles") as client:
        (id_,) = client.write([Turn("Done.", role=Role.ASSISTANT, occurred_at=MAY)], agent_id="bot").memory_ids
        memory = client.get(id_)
        assert (memory.role, memory.occurred_at, memory.agent_id) == (Role.ASSISTANT, MAY, "bot")


def test_an_empty_memory_answers_with_nothing(server: ServerProcess) -> None:
    with Client(server.address, api_key=server.key, user_id="nobody-yet") as client:
        found = client.retrieve("Anything?", session_id="none")
        assert (found.context, found.memories, found.packed_context) == ((), (), "")
