"""Where each word of a claim stands in its sentence, small words too: "proud of what she did" is not in "I'm proud of what you
did", though all its words of content are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lightmem_server.pipeline.consolidation.grounds import Grounds
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.words import Word, split_words

FARTHEST_LEAD, FARTHEST_TAIL = 5, 8
"""Words around a claim's words of content among which the small words in front of them and behind them are looked for."""

_BE = frozenset(["am", "is", "are", "was", "were", "be", "been", "being"])
_HAVE = frozenset(["have", "has", "had", "having"])
_DO = frozenset(["do", "does", "did"])
_NO_NOUNS = LEXICON["prepositions"] | LEXICON["clause_starters"]
_FAMILIES = (_BE, _HAVE, _DO)
_MAY_BE_ADDED = (
    _BE | _HAVE | _DO | frozenset(["a", "an", "the", "to", "and", "or", "that", "some", "any", "very", "so"])
)
"""What a claim may say that its sentence doesn't: "is vegan" of "I'm vegan", "cats and dogs" of "cats, dogs"."""
_FIRST = frozenset(["i", "me", "my", "mine", "we", "us", "our", "ours", "myself", "ourselves"])
_TOLD_OF_SPEAKER = frozenset(
    ["he", "him", "his", "she", "her", "hers", "they", "them", "their", "theirs", "himself", "herself", "themselves"]
)


@dataclass(frozen=True, slots=True)
class Alignment:
    """A claim's words in its sentence.

    Attributes:
        begin, end: Places of its first and last word there.
        places: Of all its words that are there.
        added: Its words that the sentence lacks, where they say something.
    """

    begin: int
    end: int
    places: tuple[int, ...]
    added: tuple[Word, ...]


def align(grounds: Grounds) -> Alignment:
    """Put a claim's words beside those of its sentence, in their order."""
    claimed, words = split_words(grounds.proposal.object), grounds.sentence.words
    content = [place for place, word in enumerate(claimed) if word.is_content]
    if not words or not content:
        return Alignment(grounds.first, grounds.last, (), ())
    found: dict[int, int] = {}
    at = grounds.first
    for place in content:
        stands = next((p for p in range(at, len(words)) if words[p].key == claimed[place].key), None)
        if stands is not None:
            found[place], at = stands, stands + 1
    if len(found) < len(content):
        missing = tuple(claimed[place] for place in content if place not in found)
        return Alignment(grounds.first, grounds.last, tuple(found.values()), missing)
    before, last = found[content[0]], found[content[-1]]
    for place in range(content[0] - 1, -1, -1):  # towards the front: a small word is the nearest of its kind
        stands = _find(claimed[place], words, range(before - 1, max(-1, before - 1 - FARTHEST_LEAD), -1))
        if stands is not None:
            found[place] = before = stands
    for place in range(content[0] + 1, len(claimed)):
        if place not in found:
            known = max(stands for other, stands in found.items() if other < place)
            until = min((stands for other, stands in found.items() if other > place), default=last + FARTHEST_TAIL)
            stands = _find(claimed[place], words, range(known + 1, min(len(words), until)))
            if stands is not None:
                found[place] = stands
    added = tuple(word for place, word in enumerate(claimed) if place not in found and word.base not in _MAY_BE_ADDED)
    places = tuple(sorted(found.values()))
    return Alignment(places[0], places[-1], places, added)


def _find(claimed: Word, words: Sequence[Word], among: range) -> int | None:
    return next((place for place in among if _is_same(claimed, words[place])), None)


def _is_same(claimed: Word, said: Word) -> bool:
    if claimed.base == said.base or (claimed.is_negation and said.is_negation):
        return True
    if claimed.base in _TOLD_OF_SPEAKER and said.base in _FIRST:
        return True
    return any(claimed.base in family and said.base in family for family in _FAMILIES)


def is_parted(grounds: Grounds, place: int) -> bool:
    """Whether a sign stands between the word at a place of the sentence and the next one."""
    words = grounds.sentence.words
    if not 0 <= place < len(words) - 1:
        return False
    between = grounds.sentence.text[words[place].end : words[place + 1].start]
    return re.search(r"[,;:.!]\s|[()\u2014\u2013]|-\s", between) is not None


def is_determiner(words: Sequence[Word], place: int) -> bool:
    """Whether "this" or "that", or one of their kin, goes with a noun: "this bowl", and not "like this"."""
    if words[place].base not in ("this", "that", "these", "those", "her"):
        return False
    behind = words[place + 1] if place + 1 < len(words) else None
    return behind is not None and (
        (behind.is_content and behind.base not in _NO_NOUNS) or behind.base in ("new", "very", "own")
    )
