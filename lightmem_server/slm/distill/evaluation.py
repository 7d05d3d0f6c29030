"""How right a judge is about lists: figures per set, the same for the teacher and its students."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightmem_server.slm.distill.lists import ReadList

BINS = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the lists of one set.

    Attributes:
        questions: Those with an answer among the passages.
        hit1: Share of them whose best passage answers.
        mrr: Mean reciprocal rank of the first that answers.
        ece: Expected calibration error of the logistic of the logits, over all passages.
    """

    questions: int
    hit1: float
    mrr: float
    ece: float


def evaluate(lists: Sequence[ReadList], logits: Sequence[NDArray[np.float32]]) -> Mapping[str, Figures]:
    """Figures by set, and of "all"."""
    by_set: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(lists):
        by_set[one.set_name].append(index)
        by_set["all"].append(index)
    return {
        name: _figures([lists[index] for index in indices], [logits[index] for index in indices])
        for name, indices in sorted(by_set.items())
    }


def _figures(lists: Sequence[ReadList], logits: Sequence[NDArray[np.float32]]) -> Figures:
    ranks = []
    for one, judged in zip(lists, logits, strict=True):
        labels = np.array(one.labels)
        if labels.any():
            ranks.append(1 + int(np.argmax(labels[np.argsort(-judged, kind="stable")])))
    labels = np.concatenate([one.labels for one in lists])
    return Figures(
        questions=len(ranks),
        hit1=float(np.mean([rank == 1 for rank in ranks])),
        mrr=float(np.mean([1 / rank for rank in ranks])),
        ece=calibration_error(to_probabilities(np.concatenate(list(logits))), labels),
    )


def to_probabilities(log_odds: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The logistic function."""
    probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(log_odds.astype(np.float64), -500, 500)))
    return probabilities


def calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Expected calibration error (Naeini et al. 2015), over bins of like count."""
    order = np.argsort(probabilities)
    bins = np.array_split(order, BINS)
    gaps = [abs(probabilities[some].mean() - labels[some].mean()) * len(some) for some in bins if len(some)]
    return float(sum(gaps) / len(order))
