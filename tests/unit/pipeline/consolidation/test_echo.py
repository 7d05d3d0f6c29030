import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.consolidation.echo import containment, echoes, without_echoes

TOLD = ["Ana: I moved to Lisbon last spring with my two cats.", "Ben likes slow bike rides"]


@pytest.mark.parametrize(
    "text",
    [
        "I moved to Lisbon last spring with my two cats.",
        "You said: I moved to Lisbon last spring with my two cats!",
        "Ben likes slow bike rides, right",
        "moved to lisbon last spring",
    ],
)
def test_what_was_recalled_is_known_again(text: str) -> None:
    assert echoes(text, TOLD)


@pytest.mark.parametrize(
    "text",
    [
        "I moved to Porto last autumn with my dog.",
        "I like slow bike rides too, but not in winter.",
        "my two cats",
        "I moved to Lisbon last spring, and later on I bought a house by the sea.",
        "",
    ],
)
def test_what_is_new_is_not(text: str) -> None:
    assert not echoes(text, TOLD)


def test_two_memories_together_make_no_echo() -> None:
    assert not echoes("I moved to Lisbon, Ben likes bikes", ["I moved to", "Lisbon Ben likes"])


def test_the_new_sentences_of_a_turn_stay() -> None:
    text = "I moved to Lisbon last spring with my two cats. Now I have a dog too."
    assert without_echoes(text, TOLD) == "Now I have a dog too."
    assert without_echoes(text, []) == text


@given(st.text(max_size=100), st.text(max_size=100))
def test_containment_is_a_share_and_whole_in_the_text_itself(text: str, other: str) -> None:
    assert 0 <= containment(text, other) <= 1
    assert containment(text, text) in (0, 1)
