"""For a need that asks for several memories: an order in which each says something new.

Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next memory is the one with the most of its final
score left after what it loses for being like one already chosen. Here what is alike is told by the vectors that the core
holds, in the mean of the passage views, and counts only beyond a likeness that different things of one conversation also
have: the order of what doesn't repeat itself is not touched.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightmem_server.pipeline.retrieval import Candidate
from lightmem_server.pipeline.tuning import Tuning

REPETITION = "repetition"
"""Name of the score's part: 0 for what is new, 1 for the same again."""


def diversify(ranked: Sequence[Candidate], similarities: NDArray[np.float32], tuning: Tuning) -> list[Candidate]:
    """Order candidates anew, take what repetition costs off each one's `score`, and note it among its `parts`.

    Dropped candidates keep their places, and what was judged stays comparable to what wasn't: in the given order a
    candidate counts for no more than the one before it.

    Args:
        ranked: Best first.
        similarities: (views, n, n), of the candidates in this order; nan where unknown, which repeats nothing.
    """
    alike = np.nan_to_num(similarities.mean(axis=0))
    whole = tuning.repetition_whole - tuning.repetition_from
    repetition = np.clip((alike - tuning.repetition_from) / whole, 0.0, 1.0)
    places = [place for place, candidate in enumerate(ranked) if candidate.drop_reason is None]
    worth = np.minimum.accumulate([ranked[place].score for place in places])
    lost = np.zeros(len(places))
    left = list(range(len(places)))
    ordered = list(ranked)
    for place in places:
        best = max(left, key=lambda i: (worth[i] - tuning.repetition_cost * lost[i], -i))
        left.remove(best)
        chosen = ordered[place] = ranked[places[best]]
        if lost[best]:
            chosen.score -= tuning.repetition_cost * float(lost[best])
            chosen.parts = {**chosen.parts, REPETITION: float(lost[best])}
        lost = np.maximum(lost, repetition[places[best], places])
    return ordered
