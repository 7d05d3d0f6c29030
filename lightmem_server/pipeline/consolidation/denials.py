"""Finds turns in which somebody takes back what is known of them: "I'm not allergic to nuts after all", "the trip is off".

By rules, on the words of the facts themselves: a model that is asked what no longer holds invents. A denial needs the fact's
words, a word that ends or denies in the same clause, and the fact's own subject in front of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from lightmem_server.pipeline.consolidation.clauses import About, clause_subject
from lightmem_server.pipeline.consolidation.instructions import is_instruction_text
from lightmem_server.pipeline.consolidation.integrate import ENDED, Denial
from lightmem_server.pipeline.consolidation.known import Known
from lightmem_server.pipeline.consolidation.lexicon import TABLES
from lightmem_server.pipeline.consolidation.model import Utterance
from lightmem_server.pipeline.consolidation.proposals import Relation
from lightmem_server.pipeline.consolidation.words import Sentence, content_keys, split_sentences, split_words, stem
from lightmem_server.types import Memory, Statement

_CLAUSE = re.compile(
    r"[;:\u2014\u2013]|,(?!\s*(?:either|too|though|after all))|\b(?:but|because|so that|although|though|since)\b"
)
_IDIOMS = re.compile(r"can(?:'|\u2019)t wait|not only|no wonder|no problem|why not", re.IGNORECASE)

ENDINGS = tuple(phrase.strip() for phrase in TABLES["phrases"]["endings"].split(","))
"""Words and phrases that say that something is over, or won't be."""


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
            if sentence.is_question or any(word.is_hypothetical for word in sentence.words):
                continue
            for fact in facts:
                relation = relations.get(_its(fact).relation)
                if relation is not None and fact.id not in found and _denies(sentence, _its(fact), relation):
                    found[fact.id] = (Denial(fact.id, utterance.turn), f"No longer: {fact.text}")
    return list(found.values())


def _denies(sentence: Sentence, fact: Statement, relation: Relation) -> bool:
    if relation.is_past:
        return False  # what happened stays so
    wanted = content_keys(fact.object)
    for clause in _clauses(sentence):
        keys = {word.key for word in clause.words}
        if not wanted or not wanted <= keys:
            continue
        text = _IDIOMS.sub(" ", clause.text).lower().replace("\u2019", "'")
        ends = any(re.search(rf"\b{re.escape(ending)}\b", text) for ending in ENDINGS)
        denies = any(word.is_negation for word in split_words(text)) and not relation.is_denial
        if not ends and not (denies and _has_cue(text, keys, relation)):
            continue
        if _is_about_speaker(sentence, clause, wanted, relation):
            return True
    return False


def _has_cue(text: str, keys: set[str], relation: Relation) -> bool:
    """Whether the relation itself is in the clause: "I don't have nuts at home" takes back no allergy."""
    return any((cue in text) if not cue.isalpha() else stem(cue) in keys for cue in relation.cues)


def _is_about_speaker(sentence: Sentence, clause: Sentence, wanted: frozenset[str], relation: Relation) -> bool:
    offset = clause.start - sentence.start
    first = next(
        (place for place, word in enumerate(sentence.words) if word.start >= offset and word.key in wanted),
        0,
    )
    about = clause_subject(sentence, first).about
    if about in (About.SPEAKER, About.SPEAKERS_OWN):
        return True
    return relation.is_plan and about is About.OTHER  # "The trip to Rome was cancelled"


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
