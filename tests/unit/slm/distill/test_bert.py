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
    (logit,) = bert.read(_params(), np.array([IDS]), np.array([TYPES]), np.ones((1, 8)), heads=tiny_bert.HEADS).logits
    assert float(logit) == pytest.approx(
        tiny_bert.logit(tiny_bert.make_weights(2, is_cross_encoder=True), IDS, TYPES), abs=1e-4
    )


def test_padding_changes_nothing() -> None:
    short = bert.read(_params(), np.array([IDS]), np.array([TYPES]), np.ones((1, 8)), heads=tiny_bert.HEADS)
    padding = [0] * 5
    mask = np.array([[1.0] * 8 + padding])
    long = bert.read(_params(), np.array([IDS + padding]), np.array([TYPES + padding]), mask, heads=tiny_bert.HEADS)
    np.testing.assert_allclose(short.logits, long.logits, atol=1e-5)
    for one, other in zip(short.states, long.states, strict=True):
        np.testing.assert_allclose(one, other[:, : one.shape[1]], atol=1e-5)


def test_activations_are_told_for_every_layer() -> None:
    told: list[bert.jax.Array] = []
    bert.read(_params(), np.array([IDS]), np.array([TYPES]), np.ones((1, 8)), heads=tiny_bert.HEADS, activations=told)
    assert [one.shape for one in told] == [(tiny_bert.FFN,)] * tiny_bert.LAYERS
    assert all(float(one.min()) >= 0 for one in told)


def test_a_state_is_told_for_every_layer_and_of_the_last_only_the_first_place() -> None:
    reading = bert.read(_params(), np.array([IDS]), np.array([TYPES]), np.ones((1, 8)), heads=tiny_bert.HEADS)
    width = WEIGHTS["pooler.dense.weight"].shape[0]
    assert [state.shape for state in reading.states] == [(1, 8, width)] * (tiny_bert.LAYERS - 1) + [(1, 1, width)]


def test_a_rounded_product_and_its_gradients_are_near_the_exact_ones() -> None:
    drawn = np.random.default_rng(0)
    state, weight = drawn.normal(size=(2, 5, 64)).astype(np.float32), drawn.normal(size=(7, 64)).astype(np.float32)
    aim = drawn.normal(size=(2, 5, 7)).astype(np.float32)

    def far(state: bert.jax.Array, weight: bert.jax.Array, dtype: bert.DTypeLike) -> bert.jax.Array:
        return (bert.product(state, weight, dtype) * aim).sum()

    def plain(state: bert.jax.Array, weight: bert.jax.Array) -> bert.jax.Array:
        return ((state @ weight.T) * aim).sum()

    exact = bert.jax.grad(plain, (0, 1))(state, weight)
    for dtype, apart in ((jnp.float32, 1e-4), (jnp.bfloat16, 0.1)):
        for one, other in zip(bert.jax.grad(far, (0, 1))(state, weight, dtype), exact, strict=True):
            assert one.dtype == jnp.float32
            np.testing.assert_allclose(one, other, atol=apart)


def _params() -> dict[str, bert.jax.Array]:
    return {name: jnp.asarray(array) for name, array in WEIGHTS.items()}
