"""Who a clause is about, by rules: the nearest subject in front of what is claimed.

No parser: a subject is a pronoun that can only be one, or a noun phrase where a clause begins. What the rules can't tell is
OTHER, and then nothing is kept. English.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.people import RELATIVES
from lightmem_server.pipeline.consolidation.words import CALENDAR, Sentence, Word

_STARTERS = LEXICON["clause_starters"]
"""Words behind which a clause may begin."""

_DETERMINERS = LEXICON["determiners"]
_POSSESSIVES = LEXICON["own_possessives"]
_OTHERS_POSSESSIVES = LEXICON["others_possessives"]
_REPORTING = LEXICON["reporting_verbs"]
_AUXILIARIES = LEXICON["auxiliaries"]
_ELIDED = LEXICON["elided_verbs"]
_PREPOSITIONS = LEXICON["prepositions"]
_TAKING_ON = frozenset(["hired", "employed"])
""" "They hired me as a cook" tells of me."""


class About(StrEnum):
    """What kind of subject."""

    SPEAKER = "speaker"
    SPEAKERS_OWN = "speakers_own"
    """Something of the speaker's: "my new job"."""
    RELATIVE = "relative"
    """Somebody of the speaker's: "my sister"."""
    THIRD = "third"
    """He, she, they, or a name."""
    ADDRESSEE = "addressee"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ClauseSubject:
    """Who a clause is about. `start` and `end` are its place in the sentence; `noun` is the relative's."""

    about: About
    start: int = 0
    end: int = 0
    text: str = ""
    noun: str = ""


def clause_subject(
    sentence: Sentence, at: int, *, end: int | None = None, known_names: Collection[str] = ()
) -> ClauseSubject:
    """The subject in front of the word at place `at` of a sentence's words.

    Args:
        end: Place of the last word of what is claimed.
        known_names: Capitalised words that are people, so that they are seen where a sentence begins with them.
    """
    words = sentence.words
    behind, *after = (
        [word.base for word in words[end + 1 : end + 3]] if end is not None and end + 1 < len(words) else [""]
    )
    if at == 0 and behind in ("is", "are") and after and after[0] in _POSSESSIVES:
        return ClauseSubject(
            About.SPEAKERS_OWN, words[0].start, words[0].end, words[0].text
        )  # "Sushi is my favourite food"
    if at and behind not in _AUXILIARIES and words[at - 1].base in _DETERMINERS:
        at -= 1  # "a flat and a cat": the claim's own article begins no clause
    for place in range(min(at, len(words)) - 1, -1, -1):
        found = _subject_at(sentence, words, place, at, known_names)
        if found is not None:
            return found
    return _elided(words, known_names)


def begins_clause(sentence: Sentence, words: Sequence[Word], place: int) -> bool:
    """Whether a clause may begin with a word."""
    if place == 0:
        return True
    before = words[place - 1]
    between = sentence.text[before.end : words[place].start]
    return before.base in _STARTERS or re.search(r"[,;:\u2014\u2013(\"-]", between) is not None


def may_be_elided(words: Sequence[Word]) -> bool:
    """Whether a sentence may be its speaker's without saying so, whoever of its capitalised words is a person."""
    for word in words:
        if word.base in _STARTERS:
            continue
        if _begins_elided(word) or not word.is_capitalised:
            return _begins_elided(word)
    return False


def _subject_at(
    sentence: Sentence, words: Sequence[Word], place: int, at: int, known_names: Collection[str]
) -> ClauseSubject | None:
    word = words[place]
    base = word.base
    following = words[place + 1].base if place + 1 < len(words) else ""
    before = words[place - 1].base if place else ""
    if base in ("i", "we"):
        about = About.OTHER if _is_reported(words, place) else About.SPEAKER
        return ClauseSubject(about, word.start, word.end, word.text)
    if base == "me" and before in _TAKING_ON and following == "as":
        return ClauseSubject(About.SPEAKER, word.start, word.end, word.text)
    if base in ("he", "she", "they"):
        return ClauseSubject(About.THIRD, word.start, word.end, word.text)
    if base in ("who", "which") and place:
        return _before_relative(words, place)
    begins = begins_clause(sentence, words, place)
    if base == "you" and (begins or following in _AUXILIARIES or following.endswith("ing")):
        return ClauseSubject(About.ADDRESSEE, word.start, word.end, word.text)
    if base in ("it", "that", "this") and (begins or word.lower != base) and following not in ("", "i", "we"):
        return ClauseSubject(About.OTHER, word.start, word.end, word.text)
    if base in _POSSESSIVES and begins:
        phrase = words[place : min(place + 5, at)]
        noun = next((each.base for each in phrase if each.base in RELATIVES and not each.lower.endswith("'s")), "")
        end = max((each.end for each in phrase if each.base == noun), default=word.end)
        about = About.RELATIVE if noun else About.SPEAKERS_OWN
        return ClauseSubject(about, word.start, end, sentence.text[word.start : end], noun)
    if base in _OTHERS_POSSESSIVES and begins:
        return ClauseSubject(About.OTHER, word.start, word.end, word.text)
    if base in _DETERMINERS and begins and before != "as":  # "I work as a nurse": of what, not who
        return ClauseSubject(About.OTHER, word.start, word.end, word.text)
    if word.is_capitalised and base not in CALENDAR and base not in _STARTERS and base not in _PREPOSITIONS:
        is_name = word.text in known_names or place > 0
        is_subject = (begins and place + 1 < at + 1) or following in _AUXILIARIES or following.endswith("ed")
        if is_name and is_subject and before not in _PREPOSITIONS and not _is_address(sentence, word):
            return ClauseSubject(About.THIRD, word.start, word.end, word.text)
    return None


def _is_reported(words: Sequence[Word], place: int) -> bool:
    """Whether somebody else says so: "she says I snore"."""
    before = [word.base for word in words[max(0, place - 4) : place] if word.base not in ("that", "me")]
    return len(before) > 1 and before[-1] in _REPORTING and before[-2] not in ("i", "we", "and", "just", "also")


def _is_address(sentence: Sentence, word: Word) -> bool:
    """Whether a name is only called: "Ana, I moved", "I moved, Ana"."""
    return re.match(r"\s*[,!]|\s*$", sentence.text[word.end :]) is not None


def _before_relative(words: Sequence[Word], place: int) -> ClauseSubject:
    for word in reversed(words[max(0, place - 3) : place]):
        if word.base in RELATIVES or word.is_capitalised:
            return ClauseSubject(About.THIRD, word.start, word.end, word.text, word.base)
    return ClauseSubject(About.OTHER)


def _elided(words: Sequence[Word], known_names: Collection[str]) -> ClauseSubject:
    """A sentence without a subject is its speaker's where it begins as one says it: "Went home", "Just moved"."""
    for word in words:
        if word.base in _STARTERS or word.text in known_names:
            continue
        return ClauseSubject(About.SPEAKER if _begins_elided(word) else About.OTHER)
    return ClauseSubject(About.OTHER)


def _begins_elided(word: Word) -> bool:
    return word.base in _ELIDED or (word.base.endswith("ed") and len(word.base) > 4)
