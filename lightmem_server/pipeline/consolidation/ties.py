"""What ties the words of a claim together in its sentence, and to what stands in front of them: a model leaves out small
words, and with them who did what to whom.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightmem_server.pipeline.consolidation.alignment import align, is_determiner, is_parted
from lightmem_server.pipeline.consolidation.grounds import Grounds
from lightmem_server.pipeline.consolidation.lexicon import LEXICON, PASTS
from lightmem_server.pipeline.consolidation.words import Word, split_words

MOST_LEFT_OUT = 2
"""Words of content inside a claim that it may leave out, such as adjectives."""

_TIES = (
    LEXICON["prepositions"] - {"to"}
    | LEXICON["object_pronouns"]
    | frozenset(["you", "your", "he", "she", "they", "her", "and", "or", "but"])
    | LEXICON["particles"]
)
_OF_WORK = {
    "works_as": frozenset(["a", "an", "as", "the", "to", "my"]),
    "works_at": frozenset(["at", "for", "in", "by", "join", "joined"]),
}
_WANTS = LEXICON["wants"]
_HAVING = LEXICON["having_verbs"]
_WANTED = re.compile(r"\b(?:wanted|planned|hoped|intended|meant)\s+to\b|\b(?:was|were)\s+going\s+to\b", re.IGNORECASE)


def leaves_out_ties(grounds: Grounds) -> bool:
    """A claim that is a predicate leaves out what ties its words: "rehearsed a group" of "rehearsed with a group", "made it
    to the view" of "made it to the top and the view was stunning"."""
    relation, words = grounds.relation, grounds.sentence.words
    if relation is None or not relation.is_predicate or not words:
        return False
    its = align(grounds)
    left_out = [place for place in range(its.begin, its.end) if place not in its.places]
    if any(words[place].base in _TIES and not _is_article(words, place, its.begin) for place in left_out):
        return True
    return sum(words[place].is_content for place in left_out) > MOST_LEFT_OUT


def _is_article(words: Sequence[Word], place: int, begin: int) -> bool:
    """Whether a word only points at the noun behind it: "painted that lake", and not "a course that begins"."""
    before = words[place - 1].base if place else ""
    leads = words[place].base != "that" or place - 1 == begin or before in LEXICON["prepositions"]
    return leads and is_determiner(words, place)


def adds_ties(grounds: Grounds) -> bool:
    """A claim has small words that its sentence lacks, "proud of what she did" of "proud of what you did"; or joins what a
    comma parts, "agrees Ben" of "I agree, Ben"."""
    relation = grounds.relation
    if relation is None or not grounds.sentence.words:
        return False
    its = align(grounds)
    if its.added:
        return True
    if not relation.is_predicate or re.search(r",|\band\b|\bor\b|\bbut\b", grounds.proposal.object):
        return False
    return any(is_parted(grounds, place) for place in range(its.begin, its.end))


def is_untied_work(grounds: Grounds) -> bool:
    """Nothing in front of the claim says that it is a job or an employer: "make this studio work", "in work hours"."""
    led_by = _OF_WORK.get(grounds.relation.name) if grounds.relation else None
    if led_by is None:
        return False
    before = grounds.sentence.words[: grounds.first]
    claimed = split_words(grounds.proposal.object)[:1]
    return not {word.base for word in (*before[_own(before) :], *claimed)} & led_by


def is_thing_of_verb(grounds: Grounds) -> bool:
    """A deed that has no verb, right behind the one that it is the object of: "needs for the homeless" of "cover needs for the
    homeless"."""
    relation, words = grounds.relation, grounds.sentence.words
    if relation is None or not relation.is_predicate or relation.is_plan or relation.is_feeling or not grounds.first:
        return False
    claimed, before = split_words(grounds.proposal.object), words[grounds.first - 1]
    is_verb = bool(claimed) and (claimed[0].base in PASTS | _HAVING or claimed[0].base.endswith(("ed", "ing")))
    return not is_verb and before.is_content and not before.base.endswith("ly") and not _is_parted(grounds, before)


def is_only_intended(grounds: Grounds) -> bool:
    """A deed that is an infinitive, "had to leave and find a place"; or a plan that somebody had, "wanted to take control",
    or puts to another, "let's make it happen"."""
    relation = grounds.relation
    if relation is None or not relation.is_predicate:
        return False
    before = [word.base for word in grounds.sentence.words[: grounds.first]]
    if relation.is_plan:
        words = grounds.sentence.words
        told = (
            grounds.sentence.text[words[_own(words[: grounds.first])].start : words[grounds.first].start]
            if words
            else ""
        )
        return "let" in before[-4:] or _WANTED.search(told) is not None
    infinitive = before[-1:] == ["to"] or (before[-1:] == ["and"] and before[-3:-2] == ["to"])
    claimed = split_words(grounds.proposal.object)
    if relation.is_past and claimed and claimed[0].base in _WANTS:
        return True
    return relation.is_past and infinitive and not (claimed and claimed[0].base.endswith("ing"))


def _own(before: Sequence[Word]) -> int:
    """Where the last of some words stands that is the speaker's "I" or "we"; 0 for none."""
    return max((place for place, word in enumerate(before) if word.base in ("i", "we")), default=0)


def _is_parted(grounds: Grounds, before: Word) -> bool:
    text = grounds.sentence.text[before.end : grounds.sentence.words[grounds.first].start]
    return re.search(r"[,;:.\u2014\u2013]", text) is not None
