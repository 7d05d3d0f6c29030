"""Where somebody lives, works and studies, and the like: whether the words that say so lead to the place or thing itself. "I'm
working on youth sports and fighting for fair chances" tells of no work for fair chances.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightmem_server.pipeline.consolidation.alignment import align, is_parted
from lightmem_server.pipeline.consolidation.government import is_adverb, is_bare_answer
from lightmem_server.pipeline.consolidation.grounds import Grounds
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.objects import takes
from lightmem_server.pipeline.consolidation.words import Word, split_words, stem

FARTHEST = 8
"""Words in front of a preposition among which the verb or noun stands that it belongs to: "moved with my two cats to"."""
LONGEST_NAMED = 6
"""Words of what a name behind a comma is the name of, with its preposition."""
SHORTEST_GERUND = 5
"""Letters that a verb in "ing" has more of: "king" and "bring" are none."""

_LEADING = {
    "lives_in": "live living move settle reside relocate base apartment flat house home place room studio condo cottage loft",
    "works_at": "work job employ hire start join position internship apprenticeship career engineer",
}
_HEADS = {name: frozenset(stem(word) for word in words.split()) for name, words in _LEADING.items()}
_OCCUPATIONS = frozenset(stem(word) for word in LEXICON["occupations"])
_TO = {
    "lives_in": frozenset(["in", "at", "to", "into", "on", "between"]),
    "works_at": frozenset(["at", "for", "by", "with", "in"]),
}
_DIRECTLY = {"works_at": frozenset(["join", "joined", "joining"])}
_ARTICLES = LEXICON["determiners"] | LEXICON["own_possessives"]
_BREAKING = LEXICON["subordinators"] - {"as", "since", "when", "while", "so", "but", "until", "because"}
_SAYING = {
    "studies": re.compile(
        r"\b(?:stud(?:y|ies|ying|ied)|learn(?:s|ing|ed|t)?(?: how)?|major(?:s|ing)? in|degrees? in|diploma in"
        r"|master['\u2019]?s(?: degree)? in|ph\.?d in|(?:class(?:es)?|courses?|lessons?) (?:in|on|about)|student of"
        r"|taking|take|took)\b",
        re.IGNORECASE,
    ),
    "allergic_to": re.compile(
        r"\b(?:allergic to|allerg(?:y|ies) to|intolerant (?:to|of)|have|has|got|developed|an?|my)\b", re.IGNORECASE
    ),
    "speaks": re.compile(r"\b(?:speaks?|spoke|speaking|fluent in|bilingual in|fluently in)\b", re.IGNORECASE),
    "from": re.compile(
        r"\b(?:from|born(?: and raised)? in|grew up (?:in|on|near)|raised in|native of|hometown is|native)\b",
        re.IGNORECASE,
    ),
}


def is_elsewhere(grounds: Grounds) -> bool:
    """The words for a relation don't lead to what the claim names."""
    relation, words = grounds.relation, grounds.sentence.words
    if relation is None or not words:
        return False
    begin = align(grounds).begin
    if is_bare_answer(grounds, begin):
        return False
    if relation.name == "lives_in" and split_words(grounds.proposal.object)[-1].base in LEXICON["no_homes"]:
        return True
    if relation.name in _HEADS:
        rest = list(words[:begin])
        if words[begin].is_capitalised and begin and is_parted(grounds, begin - 1):
            while rest and rest[-1].base not in _TO[relation.name] and len(rest) > begin - LONGEST_NAMED:
                rest.pop()  # "at a small workshop, Wielhof"
        return not _is_led_to(rest, relation.name)
    if (saying := _SAYING.get(relation.name)) is not None:
        before = grounds.sentence.text[: words[begin].start]
        return not any(takes(before[match.end() :]) for match in saying.finditer(before))
    return False


def _is_led_to(before: Sequence[Word], name: str) -> bool:
    """Whether words end with "live in", "work for" and the like, and what may stand between those two and behind them."""
    rest = list(before)
    while rest and (rest[-1].base in _ARTICLES or is_adverb(rest[-1]) or rest[-1].base in ("old", "nearby", "local")):
        rest.pop()
    if not rest:
        return False
    if rest[-1].base in _DIRECTLY.get(name, ()):
        return True
    if rest[-1].base not in _TO[name]:
        return False
    if name == "works_at" and rest[-1].base != "in" and len(rest) > 1 and rest[-2].key in _OCCUPATIONS:
        return True  # "I'm a nurse at"
    for word in reversed(rest[:-1][-FARTHEST:]):
        if word.key in _HEADS[name]:
            return True
        is_other_verb = word.base.endswith("ing") and len(word.base) > SHORTEST_GERUND
        if word.base in _BREAKING or word.base == "on" or is_other_verb:
            return False
    return False
