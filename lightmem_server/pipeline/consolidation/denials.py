"""Finds turns in which somebody takes back what is known of them: "I'm not allergic to nuts after all", "the trip is off".

By rules, on the words of the facts themselves: a model that is asked what no longer holds invents. A denial needs the fact's
words, a word that ends or denies in the same clause, and the fact's own subject in front of it; a correction, "not nuts",
needs that its turn says what it is instead.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Set

from lightmem_server.pipeline.consolidation.clauses import About, clause_subject
from lightmem_server.pipeline.consolidation.instructions import is_instruction_text
from lightmem_server.pipeline.consolidation.integrate import ENDED, Denial
from lightmem_server.pipeline.consolidation.known import Known
from lightmem_server.pipeline.consolidation.lexicon import LEXICON, TABLES
from lightmem_server.pipeline.consolidation.model import Utterance
from lightmem_server.pipeline.consolidation.proposals import Relation
from lightmem_server.pipeline.consolidation.words import (
    Sentence,
    Word,
    content_keys,
    split_sentences,
    split_words,
    stem,
)
from lightmem_server.types import Memory, Statement

_CLAUSE = re.compile(
    r"[;:\u2014\u2013]|,(?!\s*(?:either|too|though|after all))|\b(?:but|because|so that|although|though|since)\b"
)
_IDIOMS = re.compile(r"can(?:'|\u2019)t wait|not only|no wonder|no problem|why not", re.IGNORECASE)


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.split(","))


ENDINGS = _phrases(TABLES["phrases"]["endings"])
"""Words and phrases that say that something is over, or won't be."""
ENDINGS_OF = {relation: _phrases(text) for relation, text in TABLES["endings_of"].items()}
"""Further ones, by the relation that they end."""

_LASTING = frozenset(_phrases(TABLES["phrases"]["lasting"]))
"""Endings that a negation doesn't turn around: "I don't run anymore"."""
_OF_VERBS = frozenset(_phrases(TABLES["phrases"]["of_verbs"]))
"""Endings that end what the verb behind them says: not each plan for a place of which one says it."""
_JOURNEYS = LEXICON["journeys"]
_WHENS = LEXICON["whens"]
_FILLERS = LEXICON["correction_fillers"]
_FIRST_PERSON = re.compile(r"\b(?:I|[Ww]e)\b")
_PART = re.compile(r"[,.;:!?]")
_PRONOUN = re.compile(r"\b(?:it|them)\b")
_EXPERT = re.compile(
    r"\b(?:doctor|dr|gp|physician|allergist|specialist|dermatologist|hospital|lab|tests?|results?)\b[^,;.]{0,80}?"
    r"\b(?:says?|said|told|thinks?|found|confirm(?:s|ed)|show(?:s|ed)|prove[sd])\s+(?:me\s+)?(?:that\s+)?i\b",
    re.IGNORECASE,
)
_OTHERS = LEXICON["others_possessives"] | LEXICON["third_persons"]


def find_denials(
    utterances: Iterable[Utterance], known: Known, relations: Mapping[str, Relation]
) -> list[tuple[Denial, str]]:
    """What the turns take back of what is known, each fact at most once, and what to keep of it in words."""
    found: dict[object, tuple[Denial, str]] = {}
    for utterance in utterances:
        if not utterance.is_evidence or is_instruction_text(utterance.text):
            continue
        facts = [fact for fact in known.about(utterance.speaker) if _is_open(fact, utterance.turn.occurred_at)]
        for sentence in split_sentences(utterance.text):
            if sentence.is_question or any(word.is_hypothetical or word.base == "whether" for word in sentence.words):
                continue
            for fact in facts:
                relation = relations.get(_its(fact).relation)
                if (
                    relation is not None
                    and fact.id not in found
                    and _denies(sentence, _its(fact), relation, utterance.text)
                ):
                    found[fact.id] = (Denial(fact.id, utterance.turn), f"No longer: {fact.text}")
    return list(found.values())


async def find_denials_aside(
    utterances: Iterable[Utterance], known: Known, relations: Mapping[str, Relation]
) -> list[tuple[Denial, str]]:
    """See find_denials; in a thread, as the gate is: a long turn beside many facts takes time that online requests need.
    Nobody may change `known` meanwhile."""
    return await asyncio.to_thread(find_denials, utterances, known, relations)


def _denies(sentence: Sentence, fact: Statement, relation: Relation, said: str) -> bool:
    """`said`: the whole turn."""
    if relation.is_past:
        return False  # what happened stays so
    wanted = content_keys(fact.object)
    names = _names(fact.object) if relation.is_plan else frozenset()
    endings = (*ENDINGS, *ENDINGS_OF.get(relation.name, ()))
    before: frozenset[str] = frozenset()
    for clause in _clauses(sentence):
        keys = frozenset(word.key for word in clause.words)
        meant = keys | before if _PRONOUN.search(clause.text) else keys
        before |= keys
        if not wanted or not (wanted <= meant or (names and names <= meant)):
            continue
        if _corrects(clause, wanted) and _says_instead(said, clause, relation):
            return True
        text = _IDIOMS.sub(" ", clause.text).lower().replace("\u2019", "'")
        ending = _find_ending(text, endings, clause, wanted if wanted <= keys else names, relation)
        denies = any(word.is_negation for word in split_words(text)) and not relation.is_denial
        if not _gives_up(text, names):
            if not wanted <= meant:  # a plan by where it leads alone: "Rome is off"
                if ending is None or ending in _OF_VERBS:
                    continue
            elif ending is None and not (denies and _has_cue(text, keys, relation)):
                continue
        if _is_about_speaker(sentence, clause, wanted if wanted <= meant else names, relation):
            return True
    return False


def _find_ending(
    text: str, endings: Iterable[str], clause: Sentence, wanted: frozenset[str], relation: Relation
) -> str | None:
    """What in a clause says that it is over: but "we didn't cancel", and "I sold the dog's basket" where the dog is meant."""
    for ending in endings:
        found = re.search(rf"\b{re.escape(ending)}\b", text)
        if found is None:
            continue
        if ending in _LASTING:
            return ending
        around = f"{text[: found.start()]} {text[found.end() :]}"
        if not any(word.is_negation for word in split_words(around)) and _stands_alone(clause, wanted, relation):
            return ending
    return None


def _stands_alone(clause: Sentence, wanted: frozenset[str], relation: Relation) -> bool:
    """Whether words aren't part of the name of something else: "the Rome trip" is the trip, "the Rome guide" is not."""
    places = [place for place, word in enumerate(clause.words) if word.key in wanted]
    if not places or (relation.is_plan and any(word.base in _JOURNEYS for word in clause.words)):
        return True
    last, behind = clause.words[places[-1]], clause.words[places[-1] + 1 : places[-1] + 2]
    if last.lower.endswith("'s"):
        return False
    return not behind or not behind[0].is_content or behind[0].base in _WHENS or _is_of(behind[0], relation)


def _is_of(word: Word, relation: Relation) -> bool:
    """Whether a noun only names the relation: "peanut allergy", "Rome trip"."""
    return word.base in _JOURNEYS if relation.is_plan else any(stem(cue) == word.key for cue in relation.cues)


def _names(said: str) -> frozenset[str]:
    """The names among words."""
    return frozenset(word.key for word in split_words(said) if word.is_capitalised and word.is_content)


def _gives_up(text: str, names: frozenset[str]) -> bool:
    """Whether somebody doesn't go where they meant to: the name stands right behind."""
    behind = re.search(
        r"(?:\bnot|n't|\bnever)\s+(?:to\s+)?(?:be\s+)?(?:going\s+to\s+)?"
        r"(?:(?:go|going|fly|flying|travel|travell?ing|drive|driving|make\s+it|get)\s+to|visit|visiting)\s+(?:the\s+)?(\w+)",
        text,
    ) or re.search(r"(?:\bnot|n't)\s+(?:be\s+)?going\s+to\s+(\w+)", text)
    return behind is not None and stem(behind[1]) in names


def _corrects(clause: Sentence, wanted: frozenset[str]) -> bool:
    """Whether a clause only says "not" of the fact's object."""
    words = [word for word in clause.words if word.base not in _FILLERS or word.is_negation]
    denials = [word for word in words if word.is_negation]
    return (
        bool(denials)
        and {word.key for word in words if not word.is_negation and word.is_content} == wanted
        and (denials[0].lower == "not" or clause.words[0].lower.startswith("it"))
    )


def _says_instead(said: str, clause: Sentence, relation: Relation) -> bool:
    """Whether the rest of a turn tells in the first person what the relation is to."""
    for part in _PART.split(f"{said[: clause.start]},{said[clause.end :]}"):
        keys = {word.key for word in split_words(part)}
        if _FIRST_PERSON.search(part) and _has_cue(part.lower().replace("\u2019", "'"), keys, relation):
            return True
    return False


def _has_cue(text: str, keys: Set[str], relation: Relation) -> bool:
    """Whether the relation itself is in the clause: "I don't have nuts at home" takes back no allergy."""
    return any((cue in text) if not cue.isalpha() else stem(cue) in keys for cue in relation.cues)


def _is_about_speaker(sentence: Sentence, clause: Sentence, wanted: frozenset[str], relation: Relation) -> bool:
    offset = clause.start - sentence.start
    places = [place for place, word in enumerate(sentence.words) if offset <= word.start < offset + len(clause.text)]
    named = [place for place in places if sentence.words[place].key in wanted]
    first = (named or places[-1:] or [0])[0]  # "I'm not allergic to them"
    about = clause_subject(sentence, first).about
    if about in (About.SPEAKER, About.SPEAKERS_OWN):
        return True
    if about is not About.OTHER:
        return False
    if relation.is_condition:
        is_anothers = any(
            word.base in _OTHERS or word.lower.endswith("'s") for word in clause.words if word.lower != "it's"
        )
        return _EXPERT.search(clause.text) is not None or (not is_anothers and _is_of_condition(clause, wanted))
    return relation.is_plan  # "The trip to Rome was cancelled"


def _is_of_condition(clause: Sentence, wanted: frozenset[str]) -> bool:
    """ "The nut allergy was a false alarm", "no nut allergy": a condition without an owner, and nobody, begins the clause."""
    first, *behind = clause.words or (None,)
    is_open = first is not None and first.base in ("the", "that", "this", "no")
    return is_open and bool({word.key for word in behind[: len(wanted) + 1]} & wanted)


def _clauses(sentence: Sentence) -> Iterator[Sentence]:
    start = 0
    for match in _CLAUSE.finditer(sentence.text):
        yield Sentence(sentence.text[start : match.start()], sentence.start + start)
        start = match.end()
    yield Sentence(sentence.text[start:], sentence.start + start)


def _its(fact: Memory) -> Statement:
    assert fact.statement is not None, "a fact has a statement"
    return fact.statement


def _is_open(fact: Memory, at: int) -> bool:
    begins = fact.occurred_at if fact.valid_from is None else fact.valid_from
    return _its(fact).relation != ENDED and begins <= at and (fact.valid_to is None or at < fact.valid_to)
