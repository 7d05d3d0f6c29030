"""Near-duplicates among the coarse hits: the core nominates them by their vectors, here their words decide.

Vectors alone can't: an utterance with one name or number another, or with a "not" more, has a cosine to what it was of .965 in
the median and of .997 at the 95th percentile, the same utterance begun with "Well," or without its commas one of .98 at the
first percentile and of .997 in the median (`make bench-similarity`, FriendsQA, the least alike view). And the embedder
reads no more than the beginning of a long text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightmem_server.pipeline.retrieval import Candidate, DropReason

# fmt: off
FILLERS = frozenset((
    "a", "ah", "an", "and", "actually", "anyway", "basically", "er", "erm", "haha", "hey", "hi", "hmm", "honestly",
    "just", "kinda", "literally", "oh", "ok", "okay", "really", "so", "the", "totally", "uh", "um", "very", "well",
    "wow", "yay", "yeah", "yep", "yes",
))
# fmt: on
"""English words that may come or go without another thing being said; no negation, number, name or pronoun."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


def substance(text: str) -> tuple[str, ...]:
    """The words of a text that say something, in order.

    >>> substance("Well, I really like GREEN tea!") == substance("I like green tea")
    True
    >>> substance("The code is 4711") == substance("The code is 4712")
    False
    """
    words = _WORD.findall(text.casefold())
    return tuple(word for word in words if word not in FILLERS) or tuple(words)


def drop_nominated(candidates: Sequence[Candidate]) -> None:
    """Mark candidates that the core nominated and that say the same as what they repeat, as far as both are read."""
    by_id = {candidate.memory_id: candidate for candidate in candidates}
    for candidate in candidates:
        repeated = None if candidate.duplicate_of is None else by_id.get(candidate.duplicate_of)
        if candidate.drop_reason is not None or candidate.memory is None or repeated is None or repeated.memory is None:
            continue
        if substance(candidate.memory.text) == substance(repeated.memory.text):
            candidate.drop_reason = DropReason.DUPLICATE


def settle(candidates: Sequence[Candidate], most: int) -> list[Candidate]:
    """What was nominated and not dropped is a candidate like any other.

    Args:
        candidates: By coarse rank.
        most: Candidates that may be left, duplicates aside; those behind them go.
    """
    settled: list[Candidate] = []
    for candidate in candidates:
        if candidate.drop_reason is not DropReason.DUPLICATE:
            candidate.duplicate_of = None
            if most == 0:
                continue
            most -= 1
        settled.append(candidate)
        candidate.coarse_rank = len(settled)
    return settled
