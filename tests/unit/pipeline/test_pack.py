import uuid
from datetime import UTC
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.pack import KNOWN_TITLE, Packed, line, pack
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


def known(text: str, day: float, *, of: Candidate | None = None) -> Candidate:
    """A fact; covered by its turn, if there is one."""
    fact = Memory(uuid.uuid4(), Tier.LTM, Kind.FACT, text, occurred_at=int(day * DAY), created_at=0)
    made = Candidate(fact.id, 9, 1.0, {}, memory=fact)
    if of is not None:
        made.drop_reason, made.duplicate_of = DropReason.COVERED, of.memory_id
    return made


def test_facts_stand_first_in_a_section_of_their_own_with_the_day_they_were_said() -> None:
    packed = pack(
        [candidate("said", 1), known("Ana has a cat", 30), known("Ana sings", 2)], Words(), max_tokens=99, zone=UTC
    )
    facts, said = packed.text.split("\n\n")
    assert facts == f"{KNOWN_TITLE}\n3 January 1970 Ana sings\n31 January 1970 Ana has a cat"
    assert said == "Memories:\n[1970-01-02 Friday]\n00:00 Ana: said"
    assert (
        pack([known("Ana sings", 2)], Words(), max_tokens=99, zone=UTC).text
        == f"{KNOWN_TITLE}\n3 January 1970 Ana sings"
    )


def test_a_fact_stands_for_its_turn_only_where_that_finds_no_room() -> None:
    short, long = candidate("one", 1), candidate("much too long " * 20, 2)
    facts = [known("of the short", 1, of=short), known("of the long", 2, of=long)]
    packed = pack([short, long, *facts], Words(), max_tokens=40, zone=UTC)
    assert packed.candidates == [short, facts[1]]
    assert [c.drop_reason for c in (long, facts[0])] == [DropReason.MAX_TOKENS, DropReason.COVERED]


def test_what_is_kept_goes_to_facts_behind_all_turns_and_else_to_turns() -> None:
    turns = [candidate(f"turn {i} has seven words in all", i, session_id="") for i in range(1, 9)]
    fact = known("Ana sings", 2)
    with_fact = pack([*turns, fact], Words(), max_tokens=42, zone=UTC, kept_share=0.3)
    without = pack(turns, Words(), max_tokens=42, zone=UTC, kept_share=0.3)
    assert fact in with_fact.candidates
    assert fact not in pack([*turns, fact], Words(), max_tokens=42, zone=UTC).candidates
    assert without.candidates == pack(turns, Words(), max_tokens=42, zone=UTC).candidates


def test_a_long_turn_at_the_end_does_not_take_the_room_of_short_ones() -> None:
    turns = [candidate("one", 1), candidate("long " * 22, 1), candidate("two", 1), candidate("three", 1)]
    kept = pack(turns, Words(), max_tokens=33, zone=UTC, kept_share=0.2)
    assert kept.candidates == [turns[0], turns[2], turns[3]]
    assert pack(turns, Words(), max_tokens=33, zone=UTC).candidates == turns[:2]


def test_at_most_so_many_memories_are_packed() -> None:
    turns = [candidate(f"turn {i}", 1) for i in range(5)]
    packed = pack(turns, Words(), max_tokens=999, max_memories=3, zone=UTC, kept_share=0.4)
    assert packed.candidates == turns[:3]
    assert {c.drop_reason for c in turns[3:]} == {DropReason.MAX_MEMORIES}


def test_nothing_fits() -> None:
    assert pack([candidate("one", 1)], Words(), max_tokens=1, zone=UTC) == Packed([], "", 0)


def test_a_line_has_the_users_time_and_no_line_breaks() -> None:
    assert line(memory("first\nsecond", 0), ZoneInfo("Asia/Tokyo")) == "09:00 Ana: first second"


def test_the_ends_of_the_calendar_are_printed_in_utc() -> None:
    first = Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, "x", occurred_at=-62_135_596_800_000_000, created_at=0)
    assert line(first, ZoneInfo("America/New_York")) == "00:00 x"


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=40), st.booleans()), max_size=12),
    st.lists(st.text(max_size=9), max_size=5),
    st.integers(1, 60),
    st.floats(0, 0.5),
)
def test_the_budget_is_never_exceeded(
    texts: list[tuple[str, bool]], said: list[str], max_tokens: int, kept_share: float
) -> None:
    candidates = [
        known(text, day) if is_fact else candidate(text, day, session_id=str(day % 2))
        for day, (text, is_fact) in enumerate(texts)
    ]
    turns = [memory(text, 99) for text in said]
    packed = pack(candidates, Words(), max_tokens=max_tokens, zone=UTC, conversation=turns, kept_share=kept_share)
    assert Words().count(packed.text) == packed.token_count <= max_tokens
    assert all((c in packed.candidates) == (c.drop_reason is None) for c in candidates)


def test_a_covered_fact_whose_turn_found_room_late_is_covered_and_not_too_long() -> None:
    first, second = candidate("one", 1), candidate("two", 1)
    fact = known("far too long " * 9, 1, of=second)
    packed = pack([first, second, fact], Words(), max_tokens=14, zone=UTC, kept_share=0.3)
    assert packed.candidates == [first, second]
    assert (fact.drop_reason, fact.duplicate_of) == (DropReason.COVERED, second.memory_id)
