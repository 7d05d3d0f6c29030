"""When a text goes on, and when it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from lightmem_server.slm.generation import Generation, count_repeated
from lightmem_server.slm.protocols import Ending

VOCABULARY = {character: id_ for id_, character in enumerate("abcdefghijklmnopqrstuvwxyz. \n")}
END = 99


def make(
    max_tokens: int = 100,
    stops: tuple[str, ...] = (),
    until: Callable[[str], bool] | None = None,
    deadline: float | None = None,
    now: float = 0,
    prompt: str = "x",
    is_online: bool = False,
) -> Generation:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return Generation(
        ["<s>"],
        list(prompt),
        is_online=is_online,
        tokenizer=tokenizer,
        end_id=END,
        max_tokens=max_tokens,
        stops=stops,
        until=until,
        deadline=deadline,
        clock=lambda: now,
    )


def feed(generation: Generation, text: str) -> int:
    """Tokens taken until it wanted no more."""
    for taken, character in enumerate(text, start=1):
        if generation.step(VOCABULARY[character]):
            return taken
    return len(text)


def test_the_end_of_the_turn_ends_the_text() -> None:
    generation = make()
    assert feed(generation, "abc") == 3
    assert generation.step(END)
    assert (generation.written().ending, generation.written().tokens) == (Ending.DONE, 3)


def test_a_deadline_ends_the_text_after_the_token_that_passed_it() -> None:
    generation = make(deadline=5, now=6)
    assert generation.step(0)
    assert generation.written().ending is Ending.DEADLINE


def test_a_text_ends_at_its_own_longest() -> None:
    generation = make(max_tokens=3)
    assert feed(generation, "abcdef") == 3
    assert (generation.written().ending, generation.written().tokens) == (Ending.MAX_TOKENS, 3)


def test_the_caller_is_asked_after_each_line_whether_it_has_enough() -> None:
    seen: list[str] = []

    def until(text: str) -> bool:
        seen.append(text.replace(" ", ""))
        return "c" in text

    generation = make(until=until)
    assert feed(generation, "ab\ncd\nef\n") == len("ab\ncd\n")
    assert seen == ["ab\n", "ab\ncd\n"]
    assert (generation.written().ending, generation.written().tokens) == (Ending.ENOUGH, len("ab\ncd\n"))


def test_texts_of_the_same_front_and_length_can_be_written_together() -> None:
    assert make(prompt="abc").kind == make(prompt="xyz").kind
    assert make(prompt="abc").kind != make(prompt="ab").kind
    assert make(prompt="abc", is_online=True).kind != make(prompt="abc", is_online=True).kind


def test_a_caller_who_left_gets_no_more_tokens() -> None:
    generation = make()
    generation.cancel()
    assert generation.step(0)
    assert generation.written().tokens == 0


@given(st.text("abcdefgh", max_size=5), st.text("stuvwxyz", min_size=4, max_size=20))
def test_a_text_that_turns_in_circles_is_cut_to_one_copy(begin: str, copy: str) -> None:
    generation = make()
    taken = feed(generation, begin + copy * 20)
    written = generation.written()
    assert taken < len(begin) + 20 * len(copy)
    assert written.ending is Ending.REPETITION
    assert written.tokens <= len(begin) + 2 * len(copy)


@pytest.mark.parametrize("text", ["", "aaaaaa", "abcabc", "one two three four", "tell tell tell"])
def test_ordinary_texts_turn_in_no_circles(text: str) -> None:
    assert count_repeated([ord(character) for character in text]) == 0


@given(st.lists(st.integers(0, 2), max_size=120))
def test_what_is_called_repeated_stands_before_it(ids: list[int]) -> None:
    count = count_repeated(ids)
    assert 0 <= count < max(1, len(ids))
    if count:
        periods = [
            p
            for p in range(1, min(32, len(ids) - count) + 1)
            if all(ids[-count + i] == ids[-count + i - p] for i in range(count))
        ]
        assert periods
