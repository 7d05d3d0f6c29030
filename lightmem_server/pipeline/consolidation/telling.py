"""Which sentences can tell a fact: the Writer doesn't read those of which the gate would keep nothing, whatever it wrote.

Reading and writing is what the Writer's time goes into, and half of a conversation only asks, thanks or agrees; a small model
makes facts of that too. What is said here of a sentence follows from rules of the gate (rules.py) that don't look at the
claim; where they do, a sentence counts as telling.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lightmem_server.pipeline.consolidation.claims import SHORT_ANSWER_WORDS, asks_addressee
from lightmem_server.pipeline.consolidation.clauses import may_be_elided
from lightmem_server.pipeline.consolidation.courtesy import is_only_courtesy
from lightmem_server.pipeline.consolidation.grounds import ANSWER_PLACE
from lightmem_server.pipeline.consolidation.instructions import is_instruction_text
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import ResolutionKind, Utterance
from lightmem_server.pipeline.consolidation.people import find_people
from lightmem_server.pipeline.consolidation.words import Sentence, split_sentences

_SPEAKERS = frozenset(["i", "we"]) | LEXICON["own_possessives"]
_CONDITIONS = frozenset(["if", "unless"])


def find_telling(utterances: Sequence[Utterance]) -> tuple[tuple[Sentence, ...], ...]:
    """For each turn of a session the sentences of which something could be kept."""
    mentioned: dict[str, set[str]] = {}
    for each in utterances:
        names = mentioned.setdefault(each.speaker, {part.lower() for part in each.speaker.split()})
        names |= {word for person in find_people(each.text) for word in (person.noun, person.name.lower()) if word}
    return tuple(
        _telling(each, before, mentioned[each.speaker])
        for before, each in zip((None, *utterances), utterances, strict=False)
    )


def _telling(utterance: Utterance, before: Utterance | None, mentioned: Collection[str]) -> tuple[Sentence, ...]:
    if not utterance.is_evidence or is_instruction_text(utterance.text):
        return ()
    is_answer = before is not None and before.speaker != utterance.speaker and _asks_addressee(before.text)
    return tuple(
        sentence for sentence in split_sentences(utterance.text) if _can_tell(sentence, utterance, mentioned, is_answer)
    )


def _can_tell(sentence: Sentence, utterance: Utterance, mentioned: Collection[str], is_answer: bool) -> bool:
    """Whether a claim that rests on a sentence could be kept.

    Args:
        mentioned: By what names and nouns the speaker mentions themselves and their people in the session.
        is_answer: The turn follows a question of another about its speaker.
    """
    if find_people(sentence.text):
        return True  # that somebody has a sister is said by questions too
    words = sentence.words
    bases = {word.base for word in words}
    if sentence.is_question or bases & _CONDITIONS or is_only_courtesy(sentence.text):
        return False
    if bases & _SPEAKERS or bases & set(mentioned) or may_be_elided(words):
        return True
    if is_answer and sentence.start <= ANSWER_PLACE and len(words) <= SHORT_ANSWER_WORDS:
        return True
    return any(
        each.kind is ResolutionKind.PERSON and sentence.start <= each.start < sentence.end
        for each in utterance.resolutions
    )


def _asks_addressee(text: str) -> bool:
    sentences = split_sentences(text)
    return bool(sentences) and sentences[-1].is_question and asks_addressee(sentences[-1].text)
