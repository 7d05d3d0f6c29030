"""Each word of a claim has its place in the sentence, small words too."""

from __future__ import annotations

from lightmem_server.pipeline.consolidation.alignment import Alignment, align, is_determiner, is_parted
from lightmem_server.pipeline.consolidation.grounds import ground
from lightmem_server.pipeline.consolidation.model import Proposal
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt
from lightmem_server.pipeline.consolidation.words import split_words
from tests.unit.pipeline.consolidation.conversation import window


def aligned(said: str, claim: str) -> Alignment:
    its = window(f"Ana: {said}")
    grounds = ground(Proposal("Ana", "did", claim, "", (its.turns[0].id,)), its, FactsPrompt.load(PROMPT).by_name)
    assert grounds is not None
    return align(grounds)


def test_small_words_are_found_around_those_of_content() -> None:
    assert aligned("So I had a long talk with her.", "had a long talk with her") == Alignment(
        2, 7, (2, 3, 4, 5, 6, 7), ()
    )


def test_the_speakers_words_may_be_told_of_them() -> None:
    assert aligned("I sold my boat.", "sold their boat").added == ()


def test_what_the_sentence_lacks_is_added() -> None:
    assert [word.base for word in aligned("I'm proud of what you did.", "proud of what she did").added] == ["she"]
    assert [word.base for word in aligned("I'm excited to bake.", "excited about bake").added] == ["about"]
    assert aligned("I'm vegan.", "is vegan").added == ()


def test_words_in_another_order_are_not_what_was_said() -> None:
    assert [word.base for word in aligned("Ben said that I sold the boat.", "sold Ben boat").added] == ["ben"]


def test_signs_part_words_and_hyphens_do_not() -> None:
    its = window("Ana: I agree, Ben - my well-made boat is ready.")
    grounds = ground(Proposal("Ana", "did", "agree", "", (its.turns[0].id,)), its, FactsPrompt.load(PROMPT).by_name)
    assert grounds is not None
    assert [is_parted(grounds, place) for place in (1, 2, 4)] == [True, True, False]


def test_this_goes_with_a_noun_or_stands_alone() -> None:
    assert is_determiner(split_words("this old bowl"), 0)
    assert not is_determiner(split_words("like this for times"), 1)
