"""The BERT that is trained computes what the converted one will."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from lightmem_server.slm.distill import bert
from lightmem_server.slm.distill.student import strip_prefix
from tests.unit.slm import tiny_bert

IDS, TYPES = [2, 5, 7, 9, 3, 8, 11, 3], [0, 0, 0, 0, 0, 1, 1, 1]
WEIGHTS = strip_prefix(tiny_bert.make_weights(2, is_cross_encoder=True))


def test_it_computes_the_logit_of_bert() -> None:
    (logit,) = bert.logits(_params(), np.array([IDS]), np.array([TYPES]), np.ones((1, 8)), heads=tiny_bert.HEADS)
    assert float(logit) == pytest.approx(
        tiny_bert.logit(tiny_bert.make_weights(2, is_cross_encoder=True), IDS, TYPES), abs=1e-4
    )


def test_padding_changes_nothing() -> None:
    short = bert.logits(_params(), np.array([IDS]), np.array([TYPES]), np.ones((1, 8)), heads=tiny_bert.HEADS)
    padding = [0] * 5
    mask = np.array([[1.0] * 8 + padding])
    long = bert.logits(_params(), np.array([IDS + padding]), np.array([TYPES + padding]), mask, heads=tiny_bert.HEADS)
    np.testing.assert_allclose(short, long, atol=1e-5)


def test_activations_are_told_for_every_layer() -> None:
    told: list[bert.jax.Array] = []
    bert.logits(_params(), np.array([IDS]), np.array([TYPES]), np.ones((1, 8)), heads=tiny_bert.HEADS, activations=told)
    assert [one.shape for one in told] == [(tiny_bert.FFN,)] * tiny_bert.LAYERS
    assert all(float(one.min()) >= 0 for one in told)


def _params() -> dict[str, bert.jax.Array]:
    return {name: jnp.asarray(array) for name, array in WEIGHTS.items()}
