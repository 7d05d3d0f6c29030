"""What is liked, had or worked as: whether its verb takes it as its object, with nothing between them but articles and the
other items of a list. "I love watching my dogs eat apples" tells of no love for apples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightmem_server.pipeline.consolidation.alignment import align
from lightmem_server.pipeline.consolidation.claims import mentions_as_own
from lightmem_server.pipeline.consolidation.government import form_of, is_adverb, is_bare_answer
from lightmem_server.pipeline.consolidation.grounds import Grounds
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.words import Word, split_words, stem

MOST_OF_ITEM = 5
"""Words of an item of a list."""
FARTHEST = 200
"""Characters between a verb and its object, or its subject: each verb of a long turn is looked at."""

_TASTE = re.compile(
    r"\b(?:lov(?:e[sd]?|ing)|like[sd]?|enjoy(?:s|ed|ing)?|prefers?|adores?|hat(?:e[sd]?|ing)|dislikes?|detests?|stand|care for"
    r"|(?:(?:big|huge|massive|great) )?fans? of(?: both)?|into|fond of|keen on|passionate about|crazy about|obsessed with"
    r"|hooked on|all about)\b",
    re.IGNORECASE,
)
_OWN_TASTE = re.compile(
    r"\b(?:my|our)\s+(?:(?:\w+\s+){0,3}?fav(?:ou?rites?|es?|s)?\b[^.,;]{0,80}?\b(?:is|are|was|were|['\u2019]s)\b"
    r"|(?:\w+\s+)?(?:loves?|passion|fondness)\s+(?:for|of)\b|passions?\s+(?:is|are)\b)",
    re.IGNORECASE,
)
_TASTED = re.compile(
    r"^\W*(?:is|are|was|were|['\u2019]s)\s+(?:(?:one\s+of|still|also|always|definitely|really)\s+)*my\s+(?:\w+\s+){0,2}?(?:fav\w*|passion)",
    re.IGNORECASE,
)
_OF_ONE_THING = re.compile(
    r"^[^.;:!?\u2014]{0,60}?\bof\s+(?:this|that|these|those|your|his|her|their|its)\b", re.IGNORECASE
)
"""Behind the items of a list: "the energy, diversity and food of this city"."""
_HAVING = re.compile(
    r"\b(?:have|has|['\u2019]ve\s+got|got|gotten|owns?|adopted|bought|keep|keeps|my|our|their|his|her)\b", re.IGNORECASE
)
_WORKING = re.compile(
    r"(?:\b(?:(?P<as>as)|am|is|job\s+is|been|become|became)|['\u2019](?:m|s|re))"
    r"(?:\s+(?:now|still|currently|also|just|actually|really|only|already))*(?:\s+(?:an?|the|our|their))?\s*$",
    re.IGNORECASE,
)
_OVER = frozenset(["loved", "liked", "enjoyed", "hated"])
_STILL = re.compile(r"\b(?:have|has)\b|['\u2019](?:ve|s)\b", re.IGNORECASE)
"""What makes "loved" last: "I've always loved"."""
_OCCUPATIONS = frozenset(stem(word) for word in LEXICON["occupations"])
_PARTING = re.compile(
    r",|;|\s-\s|\u2014|\u2013|\s\+\s|&|\band\b|\bor\b|\bbut(?: also)?\b|\bas well as\b", re.IGNORECASE
)
_ARTICLES = (
    LEXICON["determiners"]
    | LEXICON["own_possessives"]
    | frozenset(["any", "of", "both", "such", "kinds", "sorts", "types"])
)
_PRAISE = LEXICON["small_talk"] - LEXICON["times"]
_NOT_IN_LIST = (
    (LEXICON["subordinators"] - {"so", "as", "but"})
    | LEXICON["object_pronouns"]
    | frozenset(["to", "i", "we", "you", "he", "she", "they", "my", "your", "is", "are", "was", "were", "'cause"])
)
_LED_BY = LEXICON["be_and_have"] - frozenset(["would", "will", "could", "can"]) | frozenset(
    ["a", "an", "big", "huge", "such", "not", "can't", "been", "quite", "much"]
)
_GONE = re.compile(r"\b(?:pass(?:ed|ing) (?:away|on)|died|deceased|in heaven)\b", re.IGNORECASE)
_LOST = re.compile(r"\b(?:lost|losing|sold|gave away)\s+(?:my|our)\s+(?:[a-z]+\s+){0,2}?$", re.IGNORECASE)
_OWNERS = LEXICON["own_possessives"] | LEXICON["others_possessives"]
_NO_LONGER = frozenset(["old", "former", "previous", "ex", "last", "next", "first"])
"""Of what is "my old home", which nobody says that they have."""
_EVERYBODYS = frozenset(["kids", "children", "parents", "grandchildren", "siblings", "daughters", "sons"])
_VAGUE = LEXICON["vague"] | frozenset(["some", "much", "more", "plenty", "tons"])


def is_no_object(grounds: Grounds) -> bool:
    """What is said to be liked, had or worked as isn't the object of a verb that says so."""
    relation, words = grounds.relation, grounds.sentence.words
    if relation is None or not words or relation.is_predicate:
        return False
    if relation.name == "family" and any(word.lower.endswith("'s") for word in split_words(grounds.proposal.object)):
        return True  # "my mom's place" is none of the family
    if mentions_as_own(grounds):
        return _is_everybodys(grounds) or _is_gone(grounds)
    its = align(grounds)
    before = grounds.sentence.text[: words[its.begin].start]
    if relation.is_general:
        return not _is_tasted(grounds, before, its.end)
    if relation.name == "has":
        return not _is_had(grounds, before)
    if relation.name == "works_as":
        return not _is_worked_as(grounds, its.begin)
    return False


def _is_everybodys(grounds: Grounds) -> bool:
    """Whether the kin of "our kids are our future" may be anybody's: several, without a name, and nobody's alone."""
    text = grounds.sentence.text
    return grounds.proposal.object.lower() in _EVERYBODYS and not re.search(
        rf"\b(?:my|i have|i['\u2019]ve)\b[^.!?]{{0,80}}\b{re.escape(grounds.proposal.object.lower())}\b",
        text,
        re.IGNORECASE,
    )


def _is_gone(grounds: Grounds) -> bool:
    """Whether the kin, or the pet, that a sentence mentions is no more."""
    text = grounds.sentence.text
    start = text.lower().find(grounds.proposal.object.lower())
    return _GONE.search(text) is not None or (start >= 0 and _LOST.search(text[:start]) is not None)


def _is_tasted(grounds: Grounds, before: str, end: int) -> bool:
    behind = grounds.sentence.text[grounds.sentence.words[end].end :]
    if is_bare_answer(grounds, align(grounds).begin) or _TASTED.search(behind):
        return True
    if any(takes(before[match.end() :]) for match in _OWN_TASTE.finditer(before)):
        return True
    if _OF_ONE_THING.search(behind):
        return False
    own = grounds.subject.start if grounds.subject.end else 0
    for match in _TASTE.finditer(before):
        is_over = match[0].lower() in _OVER and not _STILL.search(
            before[max(own, match.start() - FARTHEST) : match.start()]
        )
        if (
            match.start() >= own
            and not is_over
            and _is_led(before[own : match.start()])
            and takes(before[match.end() :])
        ):
            return True
    return False


def _is_had(grounds: Grounds, before: str) -> bool:
    claimed = [word for word in split_words(grounds.proposal.object) if word.base not in ("a", "an", "the")]
    if not claimed or claimed[0].base in _VAGUE:
        return False
    place = align(grounds).begin
    words = grounds.sentence.words
    if words[max(0, place - 1)].base == "the" or words[place].base == "the":
        return False  # which one is said elsewhere
    if claimed[-1].base in LEXICON["nothing_had"]:
        return False
    matches = [match for match in _HAVING.finditer(before) if takes(before[match.end() :])]
    if not matches:
        return False
    is_owned = all(match[0].lower() in _OWNERS for match in matches)
    if is_owned and (claimed[0].lower.endswith("'s") or claimed[0].base in _NO_LONGER or _LOST.search(before)):
        return False  # "near my mom's house"
    is_perfect = form_of(claimed[0]) == "past" and matches[-1][0].lower() in ("have", "has")
    return not is_perfect  # "I have developed a plan" tells what was done


def _is_worked_as(grounds: Grounds, begin: int) -> bool:
    """Whether somebody works as that; of "I'm a" only occupations say so, and not "I'm a mess"."""
    if is_bare_answer(grounds, begin):
        return True
    words, claimed = grounds.sentence.words, split_words(grounds.proposal.object)
    for word in words:
        if word.key != words[begin].key:
            continue  # "promoted to head chef, I work as a chef": any of them
        match = _WORKING.search(grounds.sentence.text[max(0, word.start - FARTHEST) : word.start])
        if match is not None and (match["as"] or claimed[-1].key in _OCCUPATIONS):
            return True
    return False


def _is_led(lead: str) -> bool:
    """Whether a verb of liking is the subject's: right behind it, or where another of its verbs could stand."""
    if len(lead) > FARTHEST:
        return False
    words = split_words(lead)
    if words and words[0].base in ("i", "we"):
        if words[0].lower.endswith("'d"):
            return False
        words = words[1:]
    if all(_leads(word) for word in words):
        return True
    parts = _PARTING.split(lead)
    last = split_words(parts[-1])
    return (
        len(parts) > 1
        and all(_leads(word) for word in last)
        and not {word.base for word in words} & LEXICON["subordinators"] - {"but", "so"}
        and not {word.base for word in words} & {"to", "would", "might"}
    )


def _leads(word: Word) -> bool:
    return word.base in _LED_BY or is_adverb(word) or word.is_negation or word.base in LEXICON["clause_starters"]


def takes(gap: str) -> bool:
    """Whether what stands between a verb and words leaves them its object: articles, or the items of a list before them."""
    if len(gap) > FARTHEST:
        return False
    *items, last = _PARTING.split(gap)
    if not _is_open(split_words(last)) or (items and not split_words(items[0])):
        return False  # "I've been studying, attending workshops"
    for item in items:
        words = split_words(item)
        if len(words) > MOST_OF_ITEM or any(word.base in _NOT_IN_LIST or word.is_negation for word in words):
            return False
    return True


def _is_open(words: Sequence[Word]) -> bool:
    rest = [word for word in words if not (is_adverb(word) or word.base in _ARTICLES or word.is_number)]
    return all(word.base in _PRAISE or word.base in ("new", "own") for word in rest) or [w.base for w in rest] == ["to"]
