import uuid
from datetime import UTC
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.pack import Packed, line, pack
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.types import Kind, Memory, Tier

DAY = 86_400_000_000


class Words:
    """Counts words, and one more for the whole, as a tokenizer that joins across lines may."""

    def count(self, text: str) -> int:
        return len(text.split()) + 1 if text else 0


def memory(text: str, day: float, *, speaker: str = "Ana", session_id: str = "") -> Memory:
    occurred_at = int(day * DAY)
    return Memory(
        uuid.uuid4(),
        Tier.MTM,
        Kind.TURN,
        text,
        occurred_at=occurred_at,
        created_at=0,
        speaker=speaker,
        session_id=session_id,
    )


def candidate(text: str, day: float, *, session_id: str = "") -> Candidate:
    said = memory(text, day, session_id=session_id)
    return Candidate(said.id, 1, 1.0, {}, memory=said)


def test_memories_stand_in_order_of_time_under_their_days_whatever_their_rank() -> None:
    best_first = [candidate("later", 2), candidate("sooner", 1), candidate("soon after", 1.5)]
    packed = pack(best_first, Words(), max_tokens=100, zone=UTC)
    assert packed.text == (
        "[1970-01-02 Friday]\n00:00 Ana: sooner\n12:00 Ana: soon after\n[1970-01-03 Saturday]\n00:00 Ana: later"
    )
    assert packed.candidates == best_first
    assert packed.token_count == Words().count(packed.text)


def test_sessions_that_interleave_are_kept_apart() -> None:
    memories = [
        candidate("a1", 1, session_id="a"),
        candidate("b", 1.2, session_id="b"),
        candidate("a2", 1.4, session_id="a"),
    ]
    packed = pack(memories, Words(), max_tokens=100, zone=UTC)
    assert [line.split()[-1] for line in packed.text.splitlines() if not line.startswith("[")] == ["a1", "a2", "b"]
    assert packed.text.count("[1970-01-02 Friday]") == 2


def test_the_conversation_comes_first_with_its_newest_turns_in_half_of_the_tokens() -> None:
    turns = [memory(f"turn {i}", 9, speaker="") for i in range(30)]
    packed = pack([candidate("known", 1)], Words(), max_tokens=40, zone=UTC, conversation=turns)
    conversation, memories = packed.text.split("\n\n")
    assert conversation.startswith("Conversation:\n[1970-01-10 Saturday]\n")
    assert conversation.endswith("turn 29")
    assert 10 < Words().count(conversation) <= 20
    assert memories == "Memories:\n[1970-01-02 Friday]\n00:00 Ana: known"


def test_what_does_not_fit_is_dropped_and_a_shorter_one_behind_it_is_kept() -> None:
    best_first = [candidate("one", 1), candidate("much too long " * 9, 2), candidate("three", 3)]
    packed = pack(best_first, Words(), max_tokens=14, zone=UTC)
    assert [c.memory.text for c in packed.candidates if c.memory] == ["one", "three"]
    assert best_first[1].drop_reason is DropReason.MAX_TOKENS


class Joined(Words):
    """Lines together cost more than apart."""

    def count(self, text: str) -> int:
        return super().count(text) + 5 * text.strip().count("\n")


def test_the_count_of_the_whole_decides_where_lines_join_dearly() -> None:
    candidates = [candidate(f"text {i}", 1) for i in range(8)]
    packed = pack(candidates, Joined(), max_tokens=40, zone=UTC)
    assert 0 < len(packed.candidates) < 8
    assert Joined().count(packed.text) == packed.token_count <= 40
    assert candidates[7].drop_reason is DropReason.MAX_TOKENS


def test_nothing_fits() -> None:
    assert pack([candidate("one", 1)], Words(), max_tokens=1, zone=UTC) == Packed([], "", 0)


def test_a_line_has_the_users_time_and_no_line_breaks() -> None:
    assert line(memory("first\nsecond", 0), ZoneInfo("Asia/Tokyo")) == "09:00 Ana: first second"


def test_the_ends_of_the_calendar_are_printed_in_utc() -> None:
    first = Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, "x", occurred_at=-62_135_596_800_000_000, created_at=0)
    assert line(first, ZoneInfo("America/New_York")) == "00:00 x"


@given(
    st.lists(st.text(min_size=1, max_size=40), max_size=12),
    st.lists(st.text(max_size=9), max_size=5),
    st.integers(1, 60),
)
def test_the_budget_is_never_exceeded(texts: list[str], said: list[str], max_tokens: int) -> None:
    candidates = [candidate(text, day, session_id=str(day % 2)) for day, text in enumerate(texts)]
    turns = [memory(text, 99) for text in said]
    packed = pack(candidates, Words(), max_tokens=max_tokens, zone=UTC, conversation=turns)
    assert Words().count(packed.text) == packed.token_count <= max_tokens
    assert all((c in packed.candidates) == (c.drop_reason is None) for c in candidates)
