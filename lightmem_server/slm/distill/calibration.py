"""Temperature and bias: the student's logits as log-odds that hold on lists it didn't learn from (Guo et al. 2017; with a
bias, Platt 1999). Both go into the classifier's weights, so that nothing has to be applied afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightmem_server.slm.distill.evaluation import to_probabilities
from lightmem_server.slm.distill.lists import ReadList

STEPS = 50
RIDGE = 1e-6
"""Keeps a fit on data that a line parts finite; on other data it changes no digit that is shown."""


def fit(lists: Sequence[ReadList], logits: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Scale and bias under which the logistic of the logits is likeliest, every set counted alike."""
    names = [one.set_name for one in lists for _ in one.labels]
    counts = Counter(names)
    x = np.concatenate(list(logits)).astype(np.float64)
    y = np.concatenate([one.labels for one in lists])
    weights = np.array([len(names) / len(counts) / counts[name] for name in names])
    bias, scale = fit_logistic(x[:, None], y, weights)
    return scale, bias


def fit_logistic(
    features: NDArray[np.float64], is_right: NDArray[Any], counts: NDArray[np.float64] | None = None
) -> list[float]:
    """The bias and weights of the likeliest logistic model, by Newton's method.

    Args:
        features: (n, k).
        is_right: (n,).
        counts: (n,) how much each counts; None: alike.
    """
    inputs = np.column_stack([np.ones(len(features)), features])
    counted = np.ones(len(features)) if counts is None else counts
    weights = np.zeros(inputs.shape[1])
    for _ in range(STEPS):
        expected = to_probabilities(inputs @ weights)
        gradient = inputs.T @ (counted * (is_right - expected)) - RIDGE * weights
        curvature = (inputs * (counted * expected * (1 - expected))[:, None]).T @ inputs + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        # A long step may overshoot where the curve is flat.
        weights += step * min(1.0, 5.0 / float(np.abs(step).max() or 1.0))
        if np.abs(step).max() < 1e-9:
            break
    return [float(weight) for weight in weights]


def apply(weights: Mapping[str, NDArray[np.float32]], scale: float, bias: float) -> dict[str, NDArray[np.float32]]:
    """The weights with the classifier scaled and shifted."""
    changed = dict(weights)
    changed["classifier.weight"] = np.float32(scale) * weights["classifier.weight"]
    changed["classifier.bias"] = np.float32(scale) * weights["classifier.bias"] + np.float32(bias)
    return changed
