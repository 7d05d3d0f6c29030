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
        hit1: Share of them whose best passage answers; None without such questions.
        mrr: Mean reciprocal rank of the first that answers; None as well.
        ece: Expected calibration error of the logistic of the logits, over all passages.
    """

    questions: int
    hit1: float | None
    mrr: float | None
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
        hit1=float(np.mean([rank == 1 for rank in ranks])) if ranks else None,
        mrr=float(np.mean([1 / rank for rank in ranks])) if ranks else None,
        ece=calibration_error(to_probabilities(np.concatenate(list(logits))), labels),
    )


@dataclass(frozen=True, slots=True)
class Abstention:
    """What a threshold on the probability does to lists.

    Attributes:
        threshold: Passages below it are not returned.
        kept_silent: Share of the lists without an answer of which nothing is returned.
        answers_lost: How much of the answers in the first 10 is no longer returned, over the lists that have some.
    """

    threshold: float
    kept_silent: float
    answers_lost: float


def choose_threshold(lists: Sequence[ReadList], logits: Sequence[NDArray[np.float32]], most_lost: float) -> float:
    """The highest threshold at which no more than `most_lost` of the answers is lost."""
    best = 0.0
    for threshold in np.unique(np.round(to_probabilities(np.concatenate(list(logits))), 4)):
        if abstain(lists, logits, float(threshold)).answers_lost > most_lost:
            break
        best = float(threshold)
    return best


def abstain(lists: Sequence[ReadList], logits: Sequence[NDArray[np.float32]], threshold: float) -> Abstention:
    """What a threshold does, every set counted alike on both sides."""
    silent: dict[str, list[float]] = defaultdict(list)
    lost: dict[str, list[float]] = defaultdict(list)
    for one, judged in zip(lists, logits, strict=True):
        labels, likely = np.array(one.labels), to_probabilities(judged)
        if labels.any():
            first = np.argsort(-judged, kind="stable")[:10]
            found = labels[first].sum()
            lost[one.set_name].append(
                float(found - (labels[first] * (likely[first] >= threshold)).sum()) / labels.sum()
            )
        else:
            silent[one.set_name].append(float((likely < threshold).all()))
    return Abstention(threshold, _mean_of_means(silent), _mean_of_means(lost))


def _mean_of_means(by_set: Mapping[str, Sequence[float]]) -> float:
    return float(np.mean([np.mean(values) for values in by_set.values()])) if by_set else 0.0


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
