"""What the losses reward."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from lightmem_server.slm.distill.losses import loss

SCORES = np.array([[4.0, 1.0, -3.0, -8.0], [2.0, -2.0, 0.0, 0.0]], np.float32)
LABELS = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
PRESENT = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]], np.float32)


def value(logits: np.ndarray, labels: np.ndarray = LABELS) -> float:
    return float(loss(*(jnp.asarray(array) for array in (logits, SCORES, labels, PRESENT))))


def test_the_teachers_order_costs_less_than_another() -> None:
    assert value(SCORES) < value(SCORES[:, [1, 0, 2, 3]])


def test_what_is_not_there_counts_nothing() -> None:
    changed = SCORES.copy()
    changed[1, 2:] = 50.0
    assert value(changed) == value(SCORES)


def test_an_answer_is_worth_more_than_the_teachers_opinion_of_it() -> None:
    other = np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    assert value(SCORES, LABELS) < value(SCORES, other)


def test_lists_without_an_answer_have_a_finite_loss() -> None:
    assert np.isfinite(value(SCORES, np.zeros_like(LABELS)))
    assert value(SCORES - 5, np.zeros_like(LABELS)) < value(SCORES, np.zeros_like(LABELS)), "nothing answers"
