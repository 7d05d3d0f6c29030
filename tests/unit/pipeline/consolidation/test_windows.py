from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.consolidation.normalise import normalise
from lightmem_server.pipeline.consolidation.windows import WINDOW_CHARACTERS, cut_windows
from lightmem_server.pipeline.consolidation.words import Sentence
from tests.unit.pipeline.consolidation.conversation import turns


def test_windows_overlap_by_context_alone() -> None:
    windows = cut_windows(normalise(turns(*"abcdefg")), turns=3, context=2)
    shape = [("".join(each.speaker for each in w.context), "".join(each.speaker for each in w.turns)) for w in windows]
    assert shape == [("", "abc"), ("bc", "def"), ("ef", "g")]


def test_long_turns_get_windows_of_their_own() -> None:
    long = "a: " + "x" * WINDOW_CHARACTERS
    windows = cut_windows(normalise(turns("b: y", long, "c: z")))
    assert [[each.speaker for each in window.turns] for window in windows] == [["b"], ["a"], ["c"]]


def test_silent_turns_take_no_room() -> None:
    telling = [(Sentence("x", 0),) if letter in "bdeg" else () for letter in "abcdefg"]
    windows = cut_windows(normalise(turns(*"abcdefg")), turns=2, context=1, telling=telling)
    shape = [tuple("".join(each.speaker for each in part) for part in (w.context, w.turns, w.asked)) for w in windows]
    assert shape == [("", "abcd", "bd"), ("d", "efg", "eg")]


def test_where_nothing_tells_there_is_a_window_that_asks_nothing() -> None:
    (window,) = cut_windows(normalise(turns("a: x", "b: y")), telling=[(), ()])
    assert (len(window.turns), window.asked) == (2, ())


@given(st.lists(st.integers(0, 3000), max_size=12), st.integers(1, 4), st.integers(0, 3))
def test_each_turn_is_asked_about_once(lengths: list[int], size: int, context: int) -> None:
    utterances = normalise(turns(*(f"Ana: {'x' * length}" for length in lengths)))
    windows = cut_windows(utterances, turns=size, context=context)
    assert tuple(each for window in windows for each in window.turns) == utterances
    assert all(1 <= len(window.turns) <= size and len(window.context) <= context for window in windows)
