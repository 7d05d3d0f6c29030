"""The pairs of the similarity bench: that each sort is what its name says."""

import pytest

from lightmem_server.slm.fakes import HashEmbedder
from tests.bench.datasets import Conversation, DialogueTurn, Question, Role, Session
from tests.bench.friendsqa import FIRST_SESSION
from tests.bench.similarity import cosines, make_pairs

TEXTS = ["Yesterday I met Ross, at noon", "He said that he is 30 by now", "We talked with Carol about it, too"]


@pytest.fixture
def conversation() -> Conversation:
    turns = tuple(DialogueTurn(f"t{i}", "Ann", Role.USER, text, FIRST_SESSION) for i, text in enumerate(TEXTS))
    questions = (
        Question("a", "Who was met?", "", frozenset({"t0", "t1"})),
        Question("a_Paraphrased", "Whom did they meet?", "", frozenset({"t0", "t1"})),
        Question("b", "How old is he?", "", frozenset({"t1"})),
    )
    return Conversation("c", (Session("s", turns),), questions)


def test_each_sort_of_pairs(conversation: Conversation) -> None:
    pairs = make_pairs([conversation])
    texts = {name: {(a[0].text, b[0].text) for a, b in of_one} for name, of_one in pairs.items()}
    assert ("He said that he is 30 by now", "He said that he is 31 by now") in texts["changed"]
    assert ("He said that he is 30 by now", "He said that he is not 30 by now") in texts["changed"]
    assert ("Yesterday I met Ross, at noon", "Yesterday I met Carol, at noon") in texts["changed"]
    assert ("Yesterday I met Ross, at noon", "Yesterday I met Ross at noon") in texts["reworded"]
    assert texts["paraphrased"] == {("Who was met?", "Whom did they meet?")}
    assert texts["unlike"] == {("Who was met?", "How old is he?")}
    assert texts["evidence"] == {(TEXTS[0], TEXTS[1])}
    assert len(texts["speaker"]) == 3


def test_what_is_changed_or_reworded_keeps_its_context(conversation: Conversation) -> None:
    pairs = make_pairs([conversation])
    assert all(a[1] == b[1] for name in ("changed", "reworded") for a, b in pairs[name])


async def test_cosines_are_of_the_views_as_stored(conversation: Conversation) -> None:
    (pair,) = make_pairs([conversation])["evidence"]
    found = await cosines([pair, (pair[0], pair[0])], HashEmbedder(64))
    assert found.shape == (2, 2)
    assert found[1] == pytest.approx(1.0)
    assert (found[0] < 0.9).all()
