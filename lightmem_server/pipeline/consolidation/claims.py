"""What a proposal claims in its sentence: of whom, and in which part of it."""

from __future__ import annotations

import re

from lightmem_server.pipeline.consolidation.clauses import begins_clause
from lightmem_server.pipeline.consolidation.grounds import Grounds
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import ResolutionKind
from lightmem_server.pipeline.consolidation.people import RELATIVES, find_people
from lightmem_server.pipeline.consolidation.words import Sentence, split_words

_IDIOMS = re.compile(
    r"can(?:'|\u2019)t wait|can(?:'|\u2019)t believe|could(?:n't|n\u2019t) be happier|not only|no wonder|no problem|no matter"
    r"|don(?:'|\u2019)t worry|why not|if only you knew|^no,|\bno,\s|has(?:n't|n\u2019t) stopped|never stop",
    re.IGNORECASE,
)
SHORT_ANSWER_WORDS = 6
VAGUE = LEXICON["vague"]


def keys_of(text: str) -> frozenset[str]:
    return frozenset(word.key for word in split_words(text))


def bases_of(text: str) -> frozenset[str]:
    return frozenset(word.base for word in split_words(text))


def _named(subject: str, speaker: str) -> bool:
    """Whether a subject names a speaker: in full, or by a part of the name alone."""
    wanted, full = subject.casefold().split(), speaker.casefold().split()
    return bool(wanted) and (wanted == full or (len(wanted) == 1 and wanted[0] in full))


def is_participant(grounds: Grounds) -> bool:
    return any(_named(grounds.proposal.subject, speaker) for speaker in grounds.window.speakers)


def is_speaker(grounds: Grounds) -> bool:
    return _named(grounds.proposal.subject, grounds.cited.speaker)


def find_relative(grounds: Grounds) -> str:
    """The noun, or the name, by which the cited turn's speaker mentions the subject as theirs; "" when they don't."""
    subject = bases_of(grounds.proposal.subject)
    owner = {part.casefold() for part in grounds.cited.speaker.split()}
    for person, whose in grounds.people:
        if whose != grounds.cited.speaker:
            continue
        others = subject - owner - {person.noun, person.name.lower()}
        if others - {"the", "my"} or not subject & {person.noun, person.name.lower()}:
            continue
        if person.name.lower() in subject or subject & owner:
            return person.name if person.name.lower() in subject else person.noun
    return ""


def means_subject(grounds: Grounds) -> bool:
    """Whether a pronoun or name in front of the claim is the proposal's subject."""
    if grounds.subject.text in ("", "I"):
        return False
    if grounds.subject.text.lower() in bases_of(grounds.proposal.subject):
        return True
    start = grounds.sentence.start + grounds.subject.start
    for resolution in grounds.cited.resolutions:
        if resolution.kind is ResolutionKind.PERSON and resolution.start == start:
            return bases_of(grounds.proposal.subject) <= bases_of(resolution.value)
    return False


def mentions_as_own(grounds: Grounds) -> bool:
    """Whether the claim is that a speaker has a relative or a pet, whom the sentence calls theirs: "my sister" says so in any
    sentence, also in a question or a denial."""
    if grounds.relation is None or not grounds.relation.is_of_kin or not is_speaker(grounds):
        return False
    claimed = bases_of(grounds.proposal.object)
    return any(
        {person.noun, person.name.lower()} >= {word for word in claimed if word not in VAGUE} and claimed
        for person in find_people(grounds.sentence.text)
        if not grounds.relation.nouns or person.noun in grounds.relation.nouns
    )


def is_done_by_object(grounds: Grounds) -> bool:
    """Whether what is claimed is done by somebody between the speaker and it: "I saw Tom win", "I want my sister to win"."""
    if grounds.relation is None or not grounds.relation.is_predicate:
        return False
    words = grounds.sentence.words
    if grounds.first and words[grounds.first].is_capitalised and begins_clause(grounds.sentence, words, grounds.first):
        return True
    before = [word for word in words[: grounds.first] if word.base not in ("to", "not", "also", "always")]
    return bool(before) and (before[-1].base in RELATIVES or (before[-1].is_capitalised and len(before) > 1))


def begins_with_own(grounds: Grounds) -> bool:
    """Whether the claim takes along what is the speaker's: "my name is Ana" as "name is Ana"."""
    words = grounds.sentence.words
    return grounds.first > 0 and words[grounds.first - 1].start == grounds.subject.start


def is_short_answer(grounds: Grounds) -> bool:
    return len(grounds.sentence.words) <= SHORT_ANSWER_WORDS and asks_addressee(grounds.answers)


def asks_addressee(question: str) -> bool:
    """Whether a question is about the one who is asked."""
    return bool(bases_of(question) & {"you", "your", "yours"})


def claim_of(grounds: Grounds) -> Sentence:
    """The clause without idioms that look like denials."""
    return Sentence(_IDIOMS.sub(" ", grounds.clause.text), grounds.clause.start)
