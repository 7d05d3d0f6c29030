"""Consolidation without a Writer, profile `lite`: facts by patterns, and turns that stand for their episode.

The patterns' facts go through the same gate as a model's: a pattern doesn't see the "if" in front of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import Episode, Proposal, Summary, Utterance, Window
from lightmem_server.pipeline.consolidation.normalise import speaker_of
from lightmem_server.pipeline.consolidation.people import RELATIVES, find_people
from lightmem_server.pipeline.consolidation.words import split_sentences
from lightmem_server.pipeline.passages import informativeness
from lightmem_server.types import Memory

REPRESENTATIVES = 2
"""Turns that stand for an episode."""
CENTRALITY_WEIGHT = 2.0
"""Beside the logarithm of its words: the most central turn alone is often "Sounds great!"."""
LONGEST_REPRESENTATIVE = 300

_I = r"\bI(?:['\u2019]m|['\u2019]ve|\s+am|\s+have)?\s+(?:(?:now|currently|also|just|still|really|recently)\s+)?"
_PLACE = r"(?P<object>(?:the\s+)?[A-Z][\w\u2019'-]+(?:\s+[A-Z][\w\u2019'-]+){0,2})"
_THING = (
    r"(?P<object>(?:[\w\u2019'-]+\s+){0,4}?[\w\u2019'-]+)"
    r"(?=\s*(?:[.,;!?\u2014]|$|\b(?:and|but|because|so|since|when|for|at|in|now|again|these|lately)\b))"
)
_CLAUSE = r"(?:^|[.,;:!?\u2014(]\s*|\b(?:and|but|because|cause|so|why|since|though|although|that|know|think|guess|say|mean)\s+)"
"""What "I" may stand behind: behind a noun it tells of that, "the job I enjoy"."""
_LIKED = (
    r"(?P<object>(?:\w[\w\u2019'-]*\s+){0,6}?\w[\w\u2019'-]*)"
    r"(?=\s*(?:[.,;!?\u2014()[]|\s[-\u2013]\s|$|\b(?:but|because|so|since|when|now|again|these|lately|although|though|as|while|if)\b"
    r"|\band\s+(?:I|we|it|my|he|she|they|you|this|that|the|how|so|just|am|is)\b|\bso\s+much\b))"
)
_NUMBER = r"(?:an?|one|two|three|four|five|six|\d{1,2})"

PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("lives_in", re.compile(rf"{_I}(?:live|living|based)\s+in\s+{_PLACE}")),
    ("lives_in", re.compile(rf"{_I}(?:moved|relocated)\s+to\s+{_PLACE}")),
    ("from", re.compile(rf"{_I}(?:come\s+from|from|grew\s+up\s+in|born\s+in|was\s+born\s+in)\s+{_PLACE}")),
    ("works_as", re.compile(rf"{_I}(?:work|working|worked)\s+as\s+an?\s+{_THING}")),
    ("works_at", re.compile(rf"{_I}(?:work|working)\s+(?:at|for)\s+{_PLACE}")),
    ("studies", re.compile(rf"{_I}(?:study|studying|majoring\s+in)\s+{_THING}")),
    ("allergic_to", re.compile(rf"{_I}allergic\s+to\s+{_THING}")),
    (
        "likes",
        re.compile(
            rf"{_CLAUSE}I\s+(?:(?:just|really|also|still)\s+)?(?:love|like|enjoy)\s+(?!to\b|is\b|you\b|it\b|them\b|also\b){_LIKED}"
        ),
    ),
    ("likes", re.compile(rf"\b[Mm]y\s+fav(?:ou?rite|e)\s+\w+(?:\s+\w+)?\s+(?:is|are)\s+(?!when\b|to\b){_LIKED}")),
    (
        "has",
        re.compile(
            rf"\bI(?:['\u2019]ve\s+got|\s+have|\s+own|\s+adopted|\s+got)\s+"
            rf"(?P<object>{_NUMBER}\s+(?:[a-z]+\s+){{0,2}}?(?:{'|'.join(sorted(RELATIVES, key=len, reverse=True))}))\b"
            r"(?!['\u2019-]|\s+(?:who|that|to|at|in|of|over|coming|and)\b)"
        ),
    ),
    ("speaks", re.compile(rf"{_I}speak\s+{_PLACE}")),
    ("age", re.compile(rf"{_I}(?P<object>\d{{1,3}}\s+years\s+old)")),
    ("other", re.compile(r"\b[Mm]y\s+(?P<object>name\s+is\s+[A-Z][\w\u2019'-]+(?:\s+[A-Z][\w\u2019'-]+)?)")),
)
"""Relation and what says it, in the first person."""

_TRAILING = re.compile(r"\s+(?:too|either|a\s+lot|very\s+much|so\s+much|the\s+most|at\s+all|as\s+well)$", re.IGNORECASE)


def extract(window: Window) -> tuple[Proposal, ...]:
    """Candidate facts of a window by patterns."""
    return tuple(proposal for utterance in window.turns if utterance.is_evidence for proposal in _extract(utterance))


def _extract(utterance: Utterance) -> Iterator[Proposal]:
    for sentence in split_sentences(utterance.text):
        for relation, pattern in PATTERNS:
            for match in pattern.finditer(sentence.text):
                said = _TRAILING.sub("", " ".join(match["object"].split()))
                if relation == "has" and said.split()[-1] in FAMILY | PLURAL_FAMILY:
                    relation = "family"
                yield Proposal(utterance.speaker, relation, said, "", (utterance.id,), line=sentence.text)
    for person in find_people(utterance.text):
        if person.name:
            relation = "friend" if person.noun == "friend" else "family" if person.noun in FAMILY else "has"
            said = person.name if relation == "friend" else f"{person.noun} {person.name}"
            yield Proposal(utterance.speaker, relation, said, "", (utterance.id,), line=utterance.text)


FAMILY = LEXICON["family"]
PLURAL_FAMILY = LEXICON["plural_relatives"] & frozenset(f"{noun}s" for noun in FAMILY) | {"children"}


def represent(episode: Episode, vectors: NDArray[np.float32]) -> Summary:
    """An episode by the words of its most central turns, in their order.

    Args:
        vectors: (n, dim), of unit length; row i is of `episode.turns[i]`.
    """
    centre = vectors.mean(axis=0)
    scores = [
        CENTRALITY_WEIGHT * float(vector @ centre) + informativeness(turn)
        for turn, vector in zip(episode.turns, vectors, strict=True)
    ]
    best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:REPRESENTATIVES]
    chosen = [episode.turns[place] for place in sorted(best)]
    return Summary(" ".join(map(_quote, chosen)), tuple(turn.id for turn in chosen), is_extractive=True)


def _quote(turn: Memory) -> str:
    text = " ".join(turn.text.split())
    if len(text) > LONGEST_REPRESENTATIVE:
        text = text[:LONGEST_REPRESENTATIVE].rpartition(" ")[0] + " \u2026"
    return f"{speaker_of(turn)}: {text}"
