"""Consolidation without a Writer, profile `lite`: facts by patterns, and turns that stand for their episode.

The patterns' facts go through the same gate as a model's: a pattern doesn't see the "if" in front of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lightmem_server.pipeline.consolidation.events import find_events
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import Episode, Proposal, Summary, Utterance, Window
from lightmem_server.pipeline.consolidation.normalise import speaker_of
from lightmem_server.pipeline.consolidation.patterns import PATTERNS
from lightmem_server.pipeline.consolidation.people import Person, find_people
from lightmem_server.pipeline.consolidation.traits import find_traits
from lightmem_server.pipeline.consolidation.words import split_sentences, split_words
from lightmem_server.pipeline.passages import informativeness
from lightmem_server.types import Memory

MOST_OF_TURN = 20
"""The gate reads the whole turn for each: of a long turn of nothing else there would be thousands."""
LONGEST_WORD = 40
"""Characters, with the space before it."""
REPRESENTATIVES = 2
"""Turns that stand for an episode."""
CENTRALITY_WEIGHT = 2.0
"""Beside the logarithm of its words: the most central turn alone is often "Sounds great!"."""
LONGEST_REPRESENTATIVE = 300

_TRAILING = re.compile(r"\s+(?:too|either|a\s+lot|very\s+much|so\s+much|the\s+most|at\s+all|as\s+well)$", re.IGNORECASE)


def extract(window: Window) -> tuple[Proposal, ...]:
    """Candidate facts of a window by patterns, each once per turn, and of one turn at most MOST_OF_TURN."""
    return tuple(proposal for utterance in window.turns if utterance.is_evidence for proposal in _first_of(utterance))


def _first_of(utterance: Utterance) -> list[Proposal]:
    found: dict[tuple[str, str, str], Proposal] = {}
    for proposal in itertools.chain(_extract(utterance), find_traits(utterance), find_events(utterance)):
        found.setdefault((proposal.relation, proposal.object, proposal.when), proposal)
        if len(found) == MOST_OF_TURN:
            break
    return list(found.values())


def _extract(utterance: Utterance) -> Iterator[Proposal]:
    for sentence in split_sentences(utterance.text):
        for relation, pattern in PATTERNS:
            for match in pattern.finditer(sentence.text):
                said = _TRAILING.sub("", " ".join(match["object"].split()))
                is_family = relation == "has" and said.split()[-1] in FAMILY | PLURAL_FAMILY
                slot = "family" if is_family else relation
                yield Proposal(utterance.speaker, slot, said, "", (utterance.id,), line=sentence.text)
    for person in find_people(utterance.text):
        relation = "friend" if person.noun == "friend" else "family" if person.noun in FAMILY | PLURAL_FAMILY else "has"
        if person.name:
            said = person.name if relation == "friend" else f"{person.noun} {person.name}"
            yield Proposal(utterance.speaker, relation, said, "", (utterance.id,), line=utterance.text)
        elif person.noun in KIN and _is_own_now(person, utterance.text):
            yield Proposal(utterance.speaker, relation, person.noun, "", (utterance.id,), line=utterance.text)


def _is_own_now(person: Person, text: str) -> bool:
    """Whether "my dog" is one that the speaker has: not "my late dog", "you're like my sister", "my boss has kids"; nor "our
    kids", whose nobody knows ("our kids are our future"). What a sentence says is over, or remembers, is not now."""
    before = text[: person.start]
    whose, *between = [word.base for word in split_words(text[person.start : person.end])]
    if whose != "my" or set(between) & _NOT_NOW or _COMPARED.search(before):
        return False
    behind = split_words(text[person.end :][:LONGEST_WORD])
    if behind and behind[0].base in LEXICON["kinds"]:
        return False
    told = [each for each in split_sentences(text) if each.start <= person.start < each.end]
    return not {word.base for sentence in told for word in sentence.words} & _GONE


_GONE = LEXICON["gone"]
_COMPARED = re.compile(
    r"(?:\bas|\bnot|n['\u2019]t|(?:['\u2019](?:re|s|m)|\b(?:is|are|was|were|be|been|just|looks?|feels?|sounds?|seems?|acts?))\s+like)\s*$",
    re.IGNORECASE,
)
"""In front of "my sister": somebody who is like one, or is none."""
_NOT_NOW = LEXICON["not_now"] | LEXICON["auxiliaries"]
FAMILY = LEXICON["family"]
KIN = LEXICON["telling_kin"]
"""Whom not everybody has: that somebody has a mother tells nothing."""
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
