import uuid
from datetime import UTC, datetime

import pytest

from lightmem_server.pipeline.passages import (
    VIEW_NAMES,
    dense_views,
    informativeness,
    judged_passage,
    lexical_views,
    session_passage,
)
from lightmem_server.slm.judged_text import MAX_CONTEXT_CHARACTERS
from lightmem_server.slm.time_window import to_micros
from lightmem_server.types import Kind, Memory, Tier, Turn

BEFORE = Turn("Moving is hard.", speaker="Ana")
ASKED = Turn("I packed the books. When do you move?", speaker="Ben")
ANSWER = Turn("Next Friday!", speaker="Ana")


def memory(text: str, occurred_at: int = 0) -> Memory:
    return Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, text, occurred_at, 0, speaker="Ana")


def test_the_views_of_an_answer_hold_its_question() -> None:
    assert dense_views(ANSWER, [BEFORE, ASKED]) == (
        "Ben: When do you move? Ana: Next Friday!",
        "Ben: I packed the books. When do you move? Ana: Next Friday!",
    )


def test_the_lexical_window_reaches_one_turn_further() -> None:
    assert lexical_views(ANSWER, [BEFORE, ASKED]) == (
        "Ben: When do you move? Ana: Next Friday!",
        "Ana: Moving is hard. Ben: I packed the books. When do you move? Ana: Next Friday!",
    )


def test_the_selector_reads_the_answer_with_its_question_marked_apart() -> None:
    assert judged_passage(ANSWER, [BEFORE, ASKED]) == "Ben: When do you move? | Ana: Next Friday!"
    assert judged_passage(ANSWER, [BEFORE]) == "Ana: Next Friday!"


def test_a_first_turn_is_its_own_window() -> None:
    assert dense_views(ANSWER, []) == lexical_views(ANSWER, []) == ("Ana: Next Friday!",) * len(VIEW_NAMES)


def test_without_a_speaker_there_is_no_colon() -> None:
    assert dense_views(Turn("Yes."), [Turn("Really?")])[0] == "Really? Yes."


@pytest.mark.parametrize(
    ("before", "question"),
    [
        ("Nice day. Shall we go? Bring tea.", "Ben: Shall we go? "),
        ("One? Two?", "Ben: Two? "),
        ("No question here.", ""),
        ("Shall we go?!", ""),
    ],
)
def test_the_last_question_is_found(before: str, question: str) -> None:
    assert dense_views(ANSWER, [Turn(before, speaker="Ben")])[0] == f"{question}Ana: Next Friday!"


def test_of_a_long_turn_the_end_is_kept_from_a_word_on() -> None:
    window = dense_views(ANSWER, [Turn("word " * 1000 + "end", speaker="Ben")])[1]
    assert len(window) <= MAX_CONTEXT_CHARACTERS + len("Ben:  Ana: Next Friday!")
    assert window.startswith("Ben: word ")
    assert window.endswith(" end Ana: Next Friday!")


def test_a_long_turn_without_spaces_is_cut_too() -> None:
    assert len(dense_views(ANSWER, [Turn("x" * 1000)])[1]) == MAX_CONTEXT_CHARACTERS + len(" Ana: Next Friday!")


def test_a_session_is_found_by_the_words_of_its_date() -> None:
    day = to_micros(datetime(2023, 5, 8, 13, tzinfo=UTC))
    assert session_passage(memory("I moved.", day)) == "Ana: I moved. 8 May 2023"


def test_the_ends_of_the_calendar_have_a_session_passage() -> None:
    assert session_passage(memory("x", 2**62)) == "Ana: x"


def test_a_long_statement_tells_more_than_thanks_or_a_question() -> None:
    assert informativeness(memory("I moved to Porto in May with my two cats.")) > informativeness(
        memory("Thanks, Mel!")
    )
    assert informativeness(memory("Thanks, Mel!")) > informativeness(memory("And you?"))
