"""Repetition through a real server with the real models: lists hold different things, near-duplicates come once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lightmem_client import Client, DropReason, RetrieveResult, Turn

from tests.server_process import ServerProcess

MAY = datetime(2023, 5, 8, 13, 0, tzinfo=UTC)
PAINTING = [
    "My favourite hobby is painting with watercolours at the weekend.",
    "Painting with watercolours on weekends is the hobby I like best.",
    "The hobby that I love most is to paint watercolours on Saturdays.",
    "I love painting watercolours at the weekend, it's my favourite hobby.",
    "On weekends I paint watercolours, which is my best loved hobby.",
]
OTHERS = [
    "Another hobby of mine is rock climbing with my cousin.",
    "Baking sourdough bread is a hobby that I took up last winter.",
    "Playing chess in the park is my oldest hobby.",
]


def told(server: ServerProcess, user_id: str, texts: list[str]) -> Client:
    """A user who said each of these on a day of its own."""
    client = Client(server.address, api_key=server.key, user_id=user_id)
    for i, text in enumerate(texts):
        turn = Turn(text, speaker="Ana", occurred_at=MAY + timedelta(days=7 * i))
        client.write([turn], session_id=f"{user_id}-{i}")
    return client


def kept(found: RetrieveResult) -> list[str]:
    return [hit.memory.text for hit in found.memories]


def test_a_question_for_several_is_answered_by_different_items(server: ServerProcess) -> None:
    with told(server, "hobbies", PAINTING + OTHERS) as client:
        found = client.retrieve("Which hobbies does Ana have?", max_memories=4, deadline_seconds=5)
        assert found.trace.plan.is_list
        assert set(OTHERS) < set(kept(found))
        lost = [c for c in found.trace.candidates if c.drop_reason is DropReason.MAX_MEMORIES]
        assert all(c.score_parts["repetition"] > 0 for c in lost)


def test_a_near_duplicate_is_left_out_and_explained(server: ServerProcess) -> None:
    texts = [
        "The code of the garage is 4711.",
        "Well, the code of the garage is 4711",
        "The code of the garage is 4712.",
    ]
    with told(server, "codes", texts) as client:
        found = client.retrieve("What is the code of the garage?")
        assert len(found.memories) == 2
        assert texts[2] in kept(found)
        (lost,) = [c for c in found.trace.candidates if c.drop_reason is DropReason.DUPLICATE]
        assert lost.duplicate_of in {hit.memory.id for hit in found.memories}
        explained = client.explain("What is the code of the garage?", lost.memory_id)
        assert lost.duplicate_of in explained.text
