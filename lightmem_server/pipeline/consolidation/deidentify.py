"""What a fact says without its person, and whether it may be said so at all.

Each rule is a function of a claim and says whether it is broken; the first broken one is the reason that is counted. Nothing is
masked: what is left of a text around a gap still tells of it. Refused is rather too much: a fact that is not shared is still
its user's own.

phonenumberslite was chosen to find phone numbers: Google's own rules, kept up by the month, 5 MB, no network. Of the rest of
what PII libraries know, each pattern has a digit, an @ or a dot in it, and is refused for that. Presidio needs spaCy for it,
scrubadub scikit-learn (its last release is of 2023), and datafog reports its use. A list of given names would refuse tea, rock
and summer: names are known from the records, and from how they are written.

What no rule can see is a name in lower case of somebody whom no record names. It is shared if as many users as the setting asks
for like that person.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from phonenumbers import Leniency, PhoneNumberMatcher

from lightmem_server.pipeline.consolidation.instructions import is_instruction_text
from lightmem_server.pipeline.consolidation.known import subject_key
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.people import RELATIVES
from lightmem_server.pipeline.consolidation.proposals import Relation
from lightmem_server.pipeline.consolidation.words import (
    STOP_WORDS,
    Word,
    content_keys,
    split_sentences,
    split_words,
    stem,
)
from lightmem_server.types import Memory

KEY_BYTES = 16

MOST_WORDS = 5
"""Of what is shared. A longer text is a quotation."""

REGIONS = (None, "US", "GB")
"""As dialled from where a number without a country's code is looked for; None: with one."""

_ARTICLES = frozenset(["a", "an", "the"])
_MAIL = re.compile(r"\S@\S|\bat\s+\S+\s+dot\b|\S\s*\(?\bat\b\)?\s*\S+\.\w{2,}", re.IGNORECASE)
_LINK = re.compile(r"\w+:/|\bwww\b|\w\.\w{2,}|\bdot\s+(?:com|org|net|io|de|uk)\b", re.IGNORECASE)
_HANDLE = re.compile(r"(?<!\S)[@#/~]\w|\w_|_\w")
_AROUND = ".,;:!?()\"'\u2018\u2019\u201c\u201d\u2026"
"""What may stand around a word."""
_POSSESSIVE = re.compile(r"\w['\u2019]s\b|s['\u2019](?!\w)", re.IGNORECASE)


class Refusal(StrEnum):
    """Why a fact is not offered; stable, counted and shown. In the order in which the rules are tried."""

    NOT_OWN = "not_own"
    PHONE = "phone"
    MAIL = "mail"
    LINK = "link"
    HANDLE = "handle"
    NUMBER = "number"
    CHARACTER = "character"
    NAME = "name"
    CAPITAL = "capital"
    FRAGMENT = "fragment"
    PERSON = "person"
    PLACE = "place"
    CONTACT = "contact"
    WORK = "work"
    SENSITIVE = "sensitive"
    INSTRUCTION = "instruction"
    NEGATED = "negated"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Token:
    """What stands between two blanks of a turn, and whether a sentence begins with it."""

    text: str
    is_first: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A fact as the rules look at it.

    Attributes:
        said: What is claimed, in the user's words.
        subject: Whom it is about.
        user: The user's own name in their conversations; "": it isn't known.
        names: Words of all names that are known, in lower case.
        tokens: Where its words stand in the turns that it rests on: what was cut off from them may say what they are.
        is_found: All of its words stand there.
    """

    said: str
    subject: str
    user: str
    names: Collection[str]
    tokens: tuple[Token, ...] = ()
    is_found: bool = True

    @property
    def words(self) -> tuple[Word, ...]:
        """Of what is claimed."""
        return split_words(self.said)

    @property
    def stems(self) -> frozenset[str]:
        """What its words are compared by."""
        return frozenset(word.key for word in self.words)


Rule: TypeAlias = Callable[[Claim], bool]


def is_not_own(claim: Claim) -> bool:
    """It tells of somebody else than the user: whoever is known to many would count as many."""
    return not claim.user or subject_key(claim.subject) != subject_key(claim.user)


def has_phone(claim: Claim) -> bool:
    """It has a phone number."""
    return any(
        PhoneNumberMatcher(claim.said, region, leniency=Leniency.POSSIBLE, max_tries=16).has_next()
        for region in REGIONS
    )


def has_mail(claim: Claim) -> bool:
    """It has a mail address, also a spelt one."""
    return _MAIL.search(claim.said) is not None


def has_link(claim: Claim) -> bool:
    """It has an address of the web, or of a machine."""
    return _LINK.search(claim.said) is not None


def has_handle(claim: Claim) -> bool:
    """It has an account's name, or a tag."""
    return _HANDLE.search(claim.said) is not None


def has_number(claim: Claim) -> bool:
    """It has a number, in digits or in words."""
    return any(character.isnumeric() for character in claim.said) or any(word.is_number for word in claim.words)


def has_odd_character(claim: Claim) -> bool:
    """It has something else than Latin letters, blanks, hyphens and apostrophes, or a letter that only looks like another."""
    plain = unicodedata.normalize("NFKC", claim.said) == claim.said
    return not plain or not all(
        each in " -'\u2019" or (each.isalpha() and "LATIN" in unicodedata.name(each, "")) for each in claim.said
    )


def has_name(claim: Claim) -> bool:
    """It has a word of a name that is known."""
    return any(word.base in claim.names for word in claim.words)


def has_capital(claim: Claim) -> bool:
    """It has a capital letter: a name, or the beginning of a sentence, which is not told apart."""
    return claim.said != claim.said.lower()


def is_fragment(claim: Claim) -> bool:
    """A word of it is a piece of something else in its turn, of an address, a handle, a name, or is not in it."""
    if not claim.is_found:
        return True
    for token in claim.tokens:
        whole = token.text.strip(_AROUND)
        if not all(each.isalpha() or each in "-'\u2019" for each in whole):
            return True
        if whole != whole.lower() and not token.is_first:
            return True
    return False


def has_person(claim: Claim) -> bool:
    """It points at somebody, or at what is somebody's."""
    if _POSSESSIVE.search(claim.said):
        return True
    return any(word.base in _PEOPLE for word in claim.words)


def has_place(claim: Claim) -> bool:
    """It has a word of addresses, or of places that somebody lives in."""
    return bool(claim.stems & _PLACES)


def has_contact(claim: Claim) -> bool:
    """It speaks of ways to reach somebody, or of secrets."""
    return bool(claim.stems & _CONTACTS)


def has_work(claim: Claim) -> bool:
    """It speaks of somebody's work: an unusual job tells who has it."""
    return bool(claim.stems & _WORK) or any(word.base == "being" for word in claim.words)


def is_sensitive(claim: Claim) -> bool:
    """It speaks of health, sexuality, belief, politics, crime, or money."""
    return bool(claim.stems & _SENSITIVE)


def is_instruction(claim: Claim) -> bool:
    """It speaks to a model: what one user writes would be read by the agents of all."""
    return is_instruction_text(claim.said) or bool({word.base for word in claim.words} & LEXICON["addressed_to_models"])


def is_negated(claim: Claim) -> bool:
    """It denies something in itself."""
    return any(word.is_negation for word in claim.words)


def is_long(claim: Claim) -> bool:
    """It says nothing, or more than a thing."""
    return not 1 <= len(_telling(claim.words)) <= MOST_WORDS or not any(word.is_content for word in claim.words)


RULES: tuple[tuple[Refusal, Rule], ...] = (
    (Refusal.NOT_OWN, is_not_own),
    (Refusal.PHONE, has_phone),
    (Refusal.MAIL, has_mail),
    (Refusal.LINK, has_link),
    (Refusal.HANDLE, has_handle),
    (Refusal.NUMBER, has_number),
    (Refusal.CHARACTER, has_odd_character),
    (Refusal.NAME, has_name),
    (Refusal.CAPITAL, has_capital),
    (Refusal.FRAGMENT, is_fragment),
    (Refusal.PERSON, has_person),
    (Refusal.PLACE, has_place),
    (Refusal.CONTACT, has_contact),
    (Refusal.WORK, has_work),
    (Refusal.SENSITIVE, is_sensitive),
    (Refusal.INSTRUCTION, is_instruction),
    (Refusal.NEGATED, is_negated),
    (Refusal.LENGTH, is_long),
)


def find_refusal(claim: Claim) -> Refusal | None:
    """The first rule that a claim breaks."""
    return next((refusal for refusal, breaks in RULES if breaks(claim)), None)


def make_claim(fact: Memory, turns: Iterable[Memory], user: str, names: Collection[str]) -> Claim:
    """A fact as a claim. `turns` are those that it rests on."""
    assert fact.statement is not None, "only facts with a statement are shared"
    said = " ".join(fact.statement.object.split())
    keys = content_keys(said)
    tokens = tuple(token for turn in turns for token in _split_tokens(turn.text) if content_keys(token.text) & keys)
    is_found = keys <= {key for token in tokens for key in content_keys(token.text)}
    return Claim(said, fact.statement.subject, user, names, tokens, is_found)


def key_of(relation: Relation, claim: Claim) -> bytes:
    """What claims are counted by: the words in their order, whatever their forms, without articles.

    Not the words of content alone: "eating in" and "eating out" have the same.
    """
    said = json.dumps([relation.name, *(word.key for word in _telling(claim.words))], ensure_ascii=False)
    return hashlib.sha256(said.encode()).digest()[:KEY_BYTES]


def wording(claim: Claim) -> str:
    """What is shared of a claim: its words, without an article in front."""
    return claim.said[_telling(claim.words)[0].start :]


def name_words(names: Iterable[str]) -> frozenset[str]:
    """The words of names that a text is searched for."""
    words = (word for name in names for word in split_words(name))
    return frozenset(word.base for word in words if len(word.base) > 1 and word.base not in STOP_WORDS)


def _split_tokens(text: str) -> Iterator[Token]:
    begins = {sentence.start for sentence in split_sentences(text)}
    for match in re.finditer(r"\S+", text):
        yield Token(match.group(), match.start() in begins)


def _telling(words: Iterable[Word]) -> list[Word]:
    return [word for word in words if word.base not in _ARTICLES]


_PEOPLE = (frozenset(RELATIVES) - LEXICON["pets"]) | LEXICON["pointers"]
_PLACES = frozenset(map(stem, LEXICON["places"]))
_CONTACTS = frozenset(map(stem, LEXICON["contacts"]))
_WORK = frozenset(map(stem, LEXICON["work"]))
_SENSITIVE = frozenset(map(stem, LEXICON["sensitive"]))
