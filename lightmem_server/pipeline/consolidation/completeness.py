"""Whether a claim says enough by itself: not "named" of "named her Tilly", not "checked it out", not "saw each other"."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from lightmem_server.pipeline.consolidation.alignment import align, is_determiner, is_parted
from lightmem_server.pipeline.consolidation.claims import mentions_as_own
from lightmem_server.pipeline.consolidation.clauses import About
from lightmem_server.pipeline.consolidation.government import is_adverb
from lightmem_server.pipeline.consolidation.grounds import Grounds
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.people import RELATIVES
from lightmem_server.pipeline.consolidation.words import Word

LEAST_DESCRIBED = 2
"""Words of content of a claim about "this book": its verb and its noun alone don't say which."""
_POINTING = LEXICON["object_pronouns"] - frozenset(["me", "us"])
_SUBJECTS = frozenset(["i", "we", "you", "he", "she", "they"])
_OF_ANOTHER = frozenset(["his", "her", "hers"])
_PREPOSITIONS = LEXICON["prepositions"]
_TIMELESS = frozenset(["for", "since", "at", "in"])
_NOTHING = frozenset(
    ["eachother", "other", "others", "while", "something", "things", "thing", "stuff", "kept", "keep", "tried"]
)
_BARE = frozenset(
    ["started", "began", "finished", "stopped", "went", "came", "arrived", "got", "had", "made", "did", "took"]
)
"""Verbs that tell nothing alone, even with a time."""
_INDEFINITE = frozenset(["a", "an", "some", "any"])
_BEGUN = frozenset(["used", "started", "began", "stopped", "keep", "keeps", "kept", "been"])
_RELATIVE = frozenset(["that", "which", "who", "whom"])
_STALE = re.compile(
    r"\b(?:ago|yesterday|tomorrow|today|tonight|(?:last|next)\s+(?:week(?:end)?|month|year|night|spring|summer|autumn|fall|winter"
    r"|(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?))\b",
    re.IGNORECASE,
)
"""Times that mean another day when they are read again, where nothing says which it was."""
_SUBORDINATORS = LEXICON["subordinators"]


def is_incomplete(grounds: Grounds) -> bool:
    """It says too little without its turn, or what the sentence needs more words for."""
    relation = grounds.relation
    is_told = relation is not None and (relation.is_predicate or relation.name == "has")
    if is_told and not grounds.proposal.when and _STALE.search(grounds.proposal.object):
        return True
    return (is_told and refers_back(grounds)) or is_cut_short(grounds) or says_little(grounds)


def is_cut_short(grounds: Grounds) -> bool:
    """The sentence goes on with what the claim's last word needs: "named" of "named her Tilly", "coffee" of "coffee shops"."""
    relation, words = grounds.relation, grounds.sentence.words
    if relation is None or not words:
        return False
    is_thing = relation.is_general or relation.is_of_work or relation.name in ("has", "works_as")
    if not (is_thing or relation.is_predicate) or mentions_as_own(grounds):
        return False
    its = align(grounds)
    if its.end + 1 >= len(words) or is_parted(grounds, its.end):
        return False
    behind = words[its.end + 1]
    if _is_of_time(behind, grounds) or behind.base in LEXICON["asides"]:
        return False
    if relation.is_predicate and _lacks_object(grounds, its.places):
        return True
    is_noun_group = is_determiner(words, its.end + 1)
    is_pronoun = behind.base in LEXICON["object_pronouns"] and behind.base != "that" and not is_noun_group
    if is_pronoun or words[its.end].lower.endswith("'s"):
        return True
    is_known = "the" in {word.base for word in words[max(0, its.end - 2) : its.end + 1]}
    if is_known and behind.base in _SUBJECTS:
        return True  # "saw the picture you took"
    if is_thing and behind.base in ("of", "that", "which", "who", "whose", "where"):
        return True
    return behind.is_content and not (
        behind.is_number or is_adverb(behind) or behind.base in _SUBORDINATORS | {"cause"}
    )


def _lacks_object(grounds: Grounds, places: Sequence[int]) -> bool:
    """Whether a verb alone is claimed, and its object follows: "used to play" of "used to play some games"."""
    words, end = grounds.sentence.words, places[-1] if places else 0
    verbs = [place for place in places if words[place].is_content and words[place].base not in _BEGUN]
    if len(verbs) != 1 or verbs[0] != end or end + 2 >= len(words) or words[end + 1].base not in _INDEFINITE:
        return False
    return words[end + 2].is_content and not any(_is_of_time(word, grounds) for word in words[end + 2 : end + 4])


def says_little(grounds: Grounds) -> bool:
    """A deed without what was done, or to what: "saw each other", "worked on for a while". One word may be enough where
    its time is known: "graduated"."""
    relation, words = grounds.relation, grounds.sentence.words
    if relation is None or not relation.is_past or not words:
        return False
    its = align(grounds)
    said = [words[place].base for place in its.places]
    if _is_of_thing_before(grounds, its.begin):
        return True
    if said[1:2] == ["since"]:
        return True  # "played since high school"
    is_broken = any(one in _PREPOSITIONS and two in _TIMELESS for one, two in itertools.pairwise(said))
    empty = LEXICON["small_talk"] | LEXICON["times"] | LEXICON["asides"] - {"alone", "home", "abroad"} | _NOTHING
    telling = [
        place
        for place in its.places
        if (words[place].is_content or place == its.begin)
        and words[place].base not in empty
        and not is_adverb(words[place])
    ]
    if len(telling) == 1 and words[telling[0]].base in _BARE:
        return True
    return is_broken or len(telling) < (1 if grounds.proposal.when else 2)


def _is_of_thing_before(grounds: Grounds, begin: int) -> bool:
    """Whether a lone verb is said of what stands before its subject: "bought" of "the lamp that I bought yesterday"."""
    words, its = grounds.sentence.words, align(grounds)
    before = [place for place, word in enumerate(words) if word.end <= grounds.subject.start]
    if (
        its.end != begin
        or words[begin].base not in LEXICON["of_things"]
        or not before
        or is_parted(grounds, before[-1])
    ):
        return False
    return words[before[-1]].base in _RELATIVE or words[before[-1]].is_content


def refers_back(grounds: Grounds) -> bool:
    """The claim has a pronoun for something of its turn, "checked it out"; or is about a thing that its turn points at, "read
    that book"."""
    words, its = grounds.sentence.words, align(grounds)
    for place in its.places:
        base = words[place].base
        if base == "that" and place < its.end and words[place + 1].base not in _PREPOSITIONS:
            continue  # "believes that it helps"
        if base in _POINTING or (base in _OF_ANOTHER and not _has_owner(grounds, its.begin, place)):
            return True
    if words[its.end].base in ("us", "there", "here"):
        return True
    content = [place for place in its.places if words[place].is_content]
    left_out = [place for place in range(its.begin, its.end) if place not in its.places]
    return len(content) <= LEAST_DESCRIBED and any(
        words[place].base in _POINTING and is_determiner(words, place) for place in left_out
    )


def _is_of_time(word: Word, grounds: Grounds) -> bool:
    if word.base in LEXICON["times"] | LEXICON["calendar"] | LEXICON["whens"]:
        return True
    at = grounds.sentence.start + word.start
    return any(each.start <= at < each.end for each in grounds.cited.resolutions)


def _has_owner(grounds: Grounds, begin: int, place: int) -> bool:
    """Whether somebody stands in front of "his" or "her" whom it can mean: the subject, or in the claim itself."""
    words = grounds.sentence.words[begin:place]
    return grounds.subject.about in (About.RELATIVE, About.THIRD) or any(
        word.is_capitalised or word.base in RELATIVES for word in words
    )
