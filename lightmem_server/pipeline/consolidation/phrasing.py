"""Facts as English says them: "dog Biscuit" is a dog, Biscuit. No word is said that isn't in the fact, but for an article, and
for what a bare name is the name of."""

from __future__ import annotations

import re

from lightmem_server.pipeline.consolidation.lexicon import LEXICON, PASTS
from lightmem_server.pipeline.consolidation.words import split_words

_NOUN_AND_NAMES = re.compile(
    r"(?P<noun>(?:\S+ )*?[a-z][\w'\u2019-]*),? (?P<names>[A-Z][\w'\u2019-]*(?:(?:,| and|, and)? [A-Z][\w'\u2019-]*)*)"
)
_NAMES = re.compile(r"[A-Z][\w'\u2019-]*(?:(?:,| and|, and)? [A-Z][\w'\u2019-]*)*")
_SINGULAR = LEXICON["family"] | LEXICON["relatives"] | LEXICON["female_relatives"] | LEXICON["male_relatives"]
_PLURAL = LEXICON["plural_relatives"]
_POINTING = LEXICON["determiners"] | LEXICON["own_possessives"] | LEXICON["others_possessives"]
_NO_NOUN = LEXICON["prepositions"] | LEXICON["determiners"] | frozenset(["and", "or", "named", "called", "is", "are"])
_ADVERBS = frozenset(
    ["always", "usually", "normally", "mostly", "often", "never", "rarely", "generally", "also", "still"]
)
_BEING = frozenset(["is", "was", "has", "had", "does", "doesn't", "isn't", "can", "can't", "will", "won't"])
_FEW = re.compile(r"(?<!\ba )\b(?:few|little)\b", re.IGNORECASE)
_VOWELS = frozenset("aeiou")
_DOUBLE = re.compile(r'(?<!\d)"')
"""And not inches."""
_OPENED = re.compile(r"(?<!\w)'(?=\w)(?![^']*')")


def name_what(said: str, noun: str = "") -> str:
    """The object of "has", with its article where English wants one.

    Args:
        said: What is had, as a fact holds it.
        noun: What a bare name is the name of; "": unknown, it stays as it is.

    >>> name_what("dog Biscuit"), name_what("older sister"), name_what("Ravi", noun="friend")
    ('a dog, Biscuit', 'an older sister', 'a friend, Ravi')
    >>> name_what("two dogs"), name_what("cats Luna and Milo"), name_what("insomnia")
    ('two dogs', 'cats, Luna and Milo', 'insomnia')
    """
    if noun and _NAMES.fullmatch(said):
        return f"{_article(noun)}{noun}, {said}"
    found = _NOUN_AND_NAMES.fullmatch(said)
    if found and found["noun"].split()[-1].lower() not in _NO_NOUN:
        return f"{_article_of(found['noun'], is_certain=True)}{found['noun']}, {found['names']}"
    return _article_of(said, is_certain=False) + said


def with_few(said: str, sentence: str) -> str:
    """What is said, with the "a" of its sentence that makes few of it some.

    >>> with_few("found few parks", "I found a few parks.")
    'found a few parks'
    >>> with_few("found few parks", "I found few parks.")
    'found few parks'
    """
    return _FEW.sub(
        lambda few: f"a {few[0]}" if re.search(rf"\ba\s+{few[0]}\b", sentence, re.IGNORECASE) else few[0], said
    )


def tell_deed(subject: str, said: str) -> str:
    """What somebody did, as a sentence where the deed begins with its verb.

    >>> tell_deed("Ana", "went to Rome"), tell_deed("Ana", "a trip to Rome")
    ('Ana went to Rome', 'Ana: a trip to Rome')
    """
    first = said.partition(" ")[0].lower()
    is_verb = first in PASTS or re.fullmatch(r"[a-z]{2,}ed", first) is not None
    return f"{subject} {said}" if is_verb else f"{subject}: {said}"


def tell_other(subject: str, said: str) -> str:
    """Whatever else is so of somebody, as a sentence where it begins with its verb, or with what of theirs it is about.

    >>> tell_other("Ana", "is vegan"), tell_other("Ana", "keeps goats"), tell_other("Ana", "birthday is on 4 July")
    ('Ana is vegan', 'Ana keeps goats', "Ana's birthday is on 4 July")
    >>> tell_other("Ana", "doesn't eat pork"), tell_other("Ana", "a trip to Rome")
    ("Ana doesn't eat pork", 'Ana: a trip to Rome')
    """
    words = said.split()
    adverb = 1 if len(words) > 1 and words[0].lower() in _ADVERBS else 0
    first = words[adverb].lower() if words else ""
    if any(word in ("is", "are", "was") for word in words[1:3]) and first not in _BEING:
        return f"{subject}'s {said}"
    is_verb = (
        first in _BEING or first in PASTS or re.fullmatch(r"[a-z]{2,}(?:ed|[^s\W]s|[sxz]es|[cs]hes)", first) is not None
    )
    return f"{subject} {said}" if is_verb and first not in _PLURAL else f"{subject}: {said}"


def _article_of(said: str, *, is_certain: bool) -> str:
    """The article and a space; nothing where there is one, a number, or several of them. Without `is_certain` only before known
    nouns: much of what people have takes none ("insomnia")."""
    words = split_words(said)
    if not words or words[0].is_number or words[0].base in _POINTING or "'" in words[0].lower:
        return ""
    known = next((word.lower for word in words if word.lower in _SINGULAR | _PLURAL), None)
    if known is None and (not is_certain or words[-1].lower.endswith("s")):
        return ""
    return "" if known in _PLURAL else _article(said)


def _article(said: str) -> str:
    return "an " if said[0].lower() in _VOWELS else "a "


def without_open_quotes(said: str) -> str:
    """Words without quotation marks of which a small model left out the other half.

    >>> without_open_quotes('plays Detroit" on the console'), without_open_quotes("the album 'Sleep")
    ('plays Detroit on the console', 'the album Sleep')
    >>> without_open_quotes("read 'Dune' at my parents' house")
    "read 'Dune' at my parents' house"
    >>> without_open_quotes('has a 12" record'), without_open_quotes('read "1984" twice')
    ('has a 12" record', 'read "1984" twice')
    """
    if said.count('"') % 2 and len(_DOUBLE.findall(said)) % 2:
        said = _DOUBLE.sub("", said)
    if said.count("\u201c") != said.count("\u201d"):
        said = said.replace("\u201c", "").replace("\u201d", "")
    return _OPENED.sub("", said)
