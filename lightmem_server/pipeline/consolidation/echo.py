"""Recall echo: what an agent was told from memory, and then says, is no new evidence for it.

Otherwise a memory would support itself: each time that it is recalled and repeated it would seem to have been said again.

Source: containment of word n-grams, Broder, "On the resemblance and containment of documents", 1997.
"""

from __future__ import annotations

from collections.abc import Iterable

from lightmem_server.pipeline.consolidation.words import split_sentences, split_words

SHINGLE_WORDS = 3
CONTAINED = 0.6
"""Share of a sentence's n-grams that one recalled text must hold. Half is reached by set phrases; a copy with a word changed
keeps more."""
LEAST_WORDS = 4
"""Shorter sentences are too common to be known for a copy."""


def echoes(text: str, recalled: Iterable[str]) -> bool:
    """Whether a text repeats one of the recalled texts.

    >>> echoes("You said Ana lives in Lisbon with two cats.", ["Ana lives in Lisbon with two cats"])
    True
    >>> echoes("Ana lives in Porto now.", ["Ana lives in Lisbon with two cats"])
    False
    """
    return any(containment(text, other) >= CONTAINED for other in recalled)


def containment(text: str, other: str) -> float:
    """Share of the n-grams of a text that another holds, 0..1; 0 for one of fewer than LEAST_WORDS words."""
    wanted = _shingles(text)
    return len(wanted & _shingles(other)) / len(wanted) if wanted else 0.0


def without_echoes(text: str, recalled: Iterable[str]) -> str:
    """The sentences of a text that repeat nothing; "" when all do."""
    told = tuple(recalled)
    return " ".join(sentence.text for sentence in split_sentences(text) if not echoes(sentence.text, told))


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    keys = [word.base for word in split_words(text)]
    if len(keys) < LEAST_WORDS:
        return frozenset()
    return frozenset(tuple(keys[at : at + SHINGLE_WORDS]) for at in range(len(keys) - SHINGLE_WORDS + 1))
