"""Temperature and bias: the student's logits as log-odds that hold on lists it didn't learn from (Guo et al. 2017; with a
bias, Platt 1999). Both go into the classifier's weights, so that nothing has to be applied afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lightmem_server.slm.distill.evaluation import to_probabilities
from lightmem_server.slm.distill.lists import ReadList

STEPS = 50


def fit(lists: Sequence[ReadList], logits: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Scale and bias under which the logistic of the logits is likeliest, every set counted alike."""
    sizes = {
        name: sum(len(one.labels) for one in lists if one.set_name == name) for name in {one.set_name for one in lists}
    }
    x = np.concatenate(list(logits)).astype(np.float64)
    y = np.concatenate([one.labels for one in lists])
    weights = np.concatenate([np.full(len(one.labels), 1 / sizes[one.set_name]) for one in lists])
    features = np.stack([x, np.ones_like(x)], axis=1)
    theta = np.zeros(2)
    for _ in range(STEPS):  # Newton's method, from where it can't overshoot by much
        p = to_probabilities(features @ theta)
        gradient = features.T @ (weights * (p - y))
        hessian = (features * (weights * p * (1 - p))[:, None]).T @ features
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        theta = theta - step / max(1.0, float(np.abs(step).max()))
    return float(theta[0]), float(theta[1])


def apply(weights: Mapping[str, NDArray[np.float32]], scale: float, bias: float) -> dict[str, NDArray[np.float32]]:
    """The weights with the classifier scaled and shifted."""
    changed = dict(weights)
    changed["classifier.weight"] = np.float32(scale) * weights["classifier.weight"]
    changed["classifier.bias"] = np.float32(scale) * weights["classifier.bias"] + np.float32(bias)
    return changed
