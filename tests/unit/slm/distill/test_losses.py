"""What the losses reward."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from lightmem_server.slm.distill.losses import imitation, loss

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


def test_where_the_teacher_puts_another_first_what_is_known_to_answer_counts_more() -> None:
    other = np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    near = np.array([[2.0, 0.0, -3.0, -8.0], [2.0, -2.0, 0.0, 0.0]], np.float32)
    assert value(near[:, [1, 0, 2, 3]], other) < value(near, other)


def test_lists_without_an_answer_have_a_finite_loss() -> None:
    assert np.isfinite(value(SCORES, np.zeros_like(LABELS)))
    assert value(SCORES - 5, np.zeros_like(LABELS)) < value(SCORES, np.zeros_like(LABELS)), "nothing answers"


def test_a_students_states_cost_what_they_are_away_from_the_teachers_where_there_is_something() -> None:
    taught = [jnp.ones((2, 3, 4)), 2 * jnp.ones((2, 1, 4))]
    mask = jnp.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    assert float(imitation(taught, taught, mask)) == 0
    assert float(imitation([0 * state for state in taught], taught, mask)) == 1
    padded = [taught[0].at[1, 1:].set(50.0), taught[1]]
    assert float(imitation(padded, taught, mask)) == 0
    near = [taught[0] * 0.9, taught[1]]
    assert 0 < float(imitation(near, taught, mask)) < float(imitation([taught[0] * 0.5, taught[1]], taught, mask))
