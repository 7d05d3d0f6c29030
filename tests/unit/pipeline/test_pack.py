import uuid
from datetime import UTC
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.pack import line, pack
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.types import Kind, Memory, Tier

DAY = 86_400_000_000


class Words:
    """Counts words, and one more for the whole, as a tokenizer that joins across lines may."""

    def count(self, text: str) -> int:
        return len(text.split()) + 1 if text else 0


def candidate(text: str, day: int, speaker: str = "Ana") -> Candidate:
    memory = Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, text, occurred_at=day * DAY, created_at=0, speaker=speaker)
    return Candidate(memory.id, 1, 1.0, {}, memory=memory)


def test_lines_are_chronological_whatever_the_order_of_the_memories() -> None:
    best_first = [candidate("later", 2), candidate("sooner", 1)]
    taken, text, count = pack(best_first, Words(), max_tokens=100, zone=UTC)
    assert text == "1970-01-02 00:00 Ana: sooner\n1970-01-03 00:00 Ana: later"
    assert taken == best_first
    assert count == Words().count(text)


def test_what_does_not_fit_is_dropped_and_a_shorter_one_behind_it_is_kept() -> None:
    best_first = [candidate("one", 1), candidate("much too long " * 9, 2), candidate("three", 3)]
    taken, _, _ = pack(best_first, Words(), max_tokens=12, zone=UTC)
    assert [c.memory.text for c in taken if c.memory] == ["one", "three"]
    assert best_first[1].drop_reason is DropReason.MAX_TOKENS


def test_nothing_fits() -> None:
    assert pack([candidate("one", 1)], Words(), max_tokens=1, zone=UTC) == ([], "", 0)


def test_a_line_has_the_users_time_and_no_line_breaks() -> None:
    memory = candidate("first\nsecond", 0).memory
    assert memory is not None
    assert line(memory, ZoneInfo("Asia/Tokyo")) == "1970-01-01 09:00 Ana: first second"


def test_the_ends_of_the_calendar_are_printed_in_utc() -> None:
    memory = candidate("x", 0).memory
    assert memory is not None
    first = Memory(memory.id, Tier.MTM, Kind.TURN, "x", occurred_at=-62_135_596_800_000_000, created_at=0)
    assert line(first, ZoneInfo("America/New_York")).endswith("01-01 00:00 x")


@given(st.lists(st.text(min_size=1, max_size=40), max_size=12), st.integers(1, 60))
def test_the_budget_is_never_exceeded(texts: list[str], max_tokens: int) -> None:
    candidates = [candidate(text, day) for day, text in enumerate(texts)]
    taken, text, count = pack(candidates, Words(), max_tokens=max_tokens, zone=UTC)
    assert Words().count(text) == count <= max_tokens
    assert all((c in taken) == (c.drop_reason is None) for c in candidates)
