"""Words for people: whom a pronoun or "my sister" can mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from lightmem_server.pipeline.consolidation.lexicon import LEXICON

_FEMALE = LEXICON["female_relatives"]
_MALE = LEXICON["male_relatives"]
_EITHER = LEXICON["relatives"]
_PLURAL = LEXICON["plural_relatives"]


class Number(StrEnum):
    """Gender and number, as far as pronouns tell them apart."""

    FEMALE = "female"
    MALE = "male"
    EITHER = "either"
    PLURAL = "plural"


RELATIVES: dict[str, Number] = {
    word: number
    for number, words in (
        (Number.FEMALE, _FEMALE),
        (Number.MALE, _MALE),
        (Number.EITHER, _EITHER),
        (Number.PLURAL, _PLURAL),
    )
    for word in words
}
"""Nouns for people and pets that somebody has."""

PRONOUNS: dict[str, Number] = {
    "she": Number.FEMALE, "her": Number.FEMALE, "hers": Number.FEMALE,
    "he": Number.MALE, "him": Number.MALE, "his": Number.MALE,
    "they": Number.PLURAL, "them": Number.PLURAL, "their": Number.PLURAL, "theirs": Number.PLURAL,
}  # fmt: skip
"""Of the third person."""

_NOUN = "|".join(sorted(RELATIVES, key=len, reverse=True))
_POSSESSED = re.compile(
    rf"\b(?P<whose>my|our)\s+(?:(?!(?:and|or|the|with|to|is|was)\b)[a-z]+\s+){{0,2}}?(?P<noun>{_NOUN})\b(?!['\u2019]|-)"
    r"(?:\s*,?\s*(?:(?:is\s+)?(?:named|called)\s+)?(?P<name>(?-i:[A-Z])[^\W\d_]+)\b(?!['\u2019]))?",
    re.IGNORECASE,
)
_APPOSED = re.compile(rf"\b(?P<name>[A-Z][^\W\d_]+)\s*,\s+my\s+(?:[a-z]+\s+){{0,2}}?(?P<noun>{_NOUN})\b")
_NAMED = re.compile(
    rf"\b[Mm]y\s+(?:[a-z]+\s+){{0,2}}?(?P<noun>{_NOUN})['\u2019]s\s+name\s+(?:is|was)\s+(?P<name>[A-Z][^\W\d_]+)\b(?!['\u2019])"
)
_INTRODUCED = re.compile(
    rf"\bI(?:['\u2019]ve)?\s+(?:have|got|adopted)\b[^.!?;\n]{{0,60}}?\ban?\s+(?:[a-z]+\s+){{0,2}}?(?P<noun>{_NOUN})\b"
    r"\s*,?\s*(?:(?:named|called)\s+)?(?P<name>[A-Z][^\W\d_]+)\b"
)
"""As in "I have a cat, Biscuit"."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom a speaker mentions as theirs: "my sister Mia"."""

    noun: str
    name: str
    number: Number
    start: int
    end: int

    def described(self, speaker: str) -> str:
        """As a subject: "Ana's sister Mia"."""
        return f"{speaker}'s {self.noun} {self.name}".rstrip()


def find_people(text: str) -> tuple[Person, ...]:
    """The people that a text mentions as its speaker's, in order.

    >>> [(person.noun, person.name) for person in find_people("My older sister Mia knows Tom, my boss.")]
    [('sister', 'Mia'), ('boss', 'Tom')]
    >>> [(person.noun, person.name) for person in find_people("I have a flat and a cat, Biscuit.")]
    [('cat', 'Biscuit')]
    """
    found = [
        Person(noun := match["noun"].lower(), _name(match), RELATIVES[noun], match.start(), match.end())
        for pattern in (_POSSESSED, _APPOSED, _NAMED, _INTRODUCED)
        for match in pattern.finditer(text)
        if (match["name"] or "").lower() not in LEXICON["clause_starters"] | LEXICON["stop_words"]
        and not set(match[0].lower().split()) & LEXICON["pet_adjectives"]
    ]
    named = [person for person in found if person.name]
    kept = [
        person
        for person in found
        if person.name or not any(each.start <= person.start and person.end <= each.end for each in named)
    ]  # "Tom, my boss" mentions one
    return tuple(sorted(kept, key=lambda person: person.start))


_TITLES = frozenset(["Mr", "Mrs", "Ms", "Dr", "Prof", "St"])
"""No names: those behind them stand in a sentence of their own for the patterns."""


def _name(match: re.Match[str]) -> str:
    """The name given; none in a list of people: "my girlfriend, Toby and I"."""
    if not match["name"] or match["name"] in _TITLES:
        return ""
    between = match.string[match.end("noun") : match.start("name")]
    is_listed = "," in between and re.match(r",?\s+and\s+(?:I|me|we)\b", match.string[match.end("name") :])
    return "" if is_listed else match["name"]
