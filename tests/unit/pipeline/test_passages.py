import pytest

from lightmem_server.pipeline.passages import MAX_PRECEDING_CHARACTERS, VIEW_NAMES, dense_views, lexical_views
from lightmem_server.types import Turn

BEFORE = Turn("Moving is hard.", speaker="Ana")
ASKED = Turn("I packed the books. When do you move?", speaker="Ben")
ANSWER = Turn("Next Friday!", speaker="Ana")


def test_the_views_of_an_answer_hold_its_question() -> None:
    assert dense_views(ANSWER, [BEFORE, ASKED]) == (
        "Ana: Next Friday!",
        "Ben: When do you move? Ana: Next Friday!",
        "Ben: I packed the books. When do you move? Ana: Next Friday!",
    )


def test_the_lexical_window_reaches_one_turn_further() -> None:
    assert lexical_views(ANSWER, [BEFORE, ASKED]) == (
        "",
        "Ben: When do you move? Ana: Next Friday!",
        "Ana: Moving is hard. Ben: I packed the books. When do you move? Ana: Next Friday!",
    )


def test_a_first_turn_is_its_own_window() -> None:
    assert dense_views(ANSWER, []) == ("Ana: Next Friday!",) * 3
    assert lexical_views(ANSWER, [])[1:] == ("Ana: Next Friday!",) * 2


def test_there_is_a_text_for_every_view() -> None:
    assert len(dense_views(ANSWER, [])) == len(lexical_views(ANSWER, [])) == len(VIEW_NAMES)


def test_without_a_speaker_there_is_no_colon() -> None:
    assert dense_views(Turn("Yes."), [Turn("Really?")])[1] == "Really? Yes."


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
    assert dense_views(ANSWER, [Turn(before, speaker="Ben")])[1] == f"{question}Ana: Next Friday!"


def test_of_a_long_turn_the_end_is_kept_from_a_word_on() -> None:
    window = dense_views(ANSWER, [Turn("word " * 1000 + "end", speaker="Ben")])[2]
    assert len(window) <= MAX_PRECEDING_CHARACTERS + len("Ben:  Ana: Next Friday!")
    assert window.startswith("Ben: word ")
    assert window.endswith(" end Ana: Next Friday!")


def test_a_long_turn_without_spaces_is_cut_too() -> None:
    assert len(dense_views(ANSWER, [Turn("x" * 1000)])[2]) == MAX_PRECEDING_CHARACTERS + len(" Ana: Next Friday!")
