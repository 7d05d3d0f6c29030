"""A BERT cross-encoder in JAX, on weights under their Hugging Face names, so that what is trained is converted as what was
downloaded is (convert.py).

Post-norm encoder, exact GELU, tanh pooler, one label: Devlin et al. 2019, as BertForSequenceClassification computes it.
Float32 throughout: on processors of today that is what XLA computes fastest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Params: TypeAlias = Mapping[str, jax.Array]

EPSILON = 1e-12
MASKED = -1e9


def count_layers(params: Params) -> int:
    """Encoder layers among the weights."""
    return 1 + max(int(name.split(".")[2]) for name in params if name.startswith("encoder.layer."))


def logits(
    params: Params,
    ids: ArrayLike,
    types: ArrayLike,
    mask: ArrayLike,
    *,
    heads: int,
    activations: list[jax.Array] | None = None,
) -> jax.Array:
    """The classifier's output (n,) for n pairs.

    Args:
        ids, types, mask: (n, length): word pieces, 0 for the query's and 1 for the passage's, 1 where there is one.
        activations: Gets, per layer, each inner neuron's mean absolute activation (width,). Not under jit.
    """
    ids, types, mask = jnp.asarray(ids), jnp.asarray(types), jnp.asarray(mask)
    positions = params["embeddings.position_embeddings.weight"][: ids.shape[1]]
    state = params["embeddings.word_embeddings.weight"][ids] + positions
    state = _norm(params, "embeddings.LayerNorm", state + params["embeddings.token_type_embeddings.weight"][types])
    bias = jnp.where(mask[:, None, None, :] > 0, 0.0, MASKED)
    last = count_layers(params) - 1
    for index in range(last + 1):
        name = f"encoder.layer.{index}"
        # Of the last layer only [CLS] is read, so only it is computed.
        attended = _attend(params, name, state[:, :1] if index == last else state, state, bias, heads)
        widened = jax.nn.gelu(_linear(params, f"{name}.intermediate.dense", attended), approximate=False)
        if activations is not None:
            activations.append(jnp.abs(widened).mean((0, 1)))
        state = _norm(params, f"{name}.output.LayerNorm", _linear(params, f"{name}.output.dense", widened) + attended)
    pooled = jnp.tanh(_linear(params, "pooler.dense", state[:, 0]))
    return _linear(params, "classifier", pooled)[:, 0]


def _attend(params: Params, name: str, queries: jax.Array, state: jax.Array, bias: jax.Array, heads: int) -> jax.Array:
    def split(part: str, source: jax.Array) -> jax.Array:
        projected = _linear(params, f"{name}.attention.self.{part}", source)
        return projected.reshape(*projected.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    query, key, value = split("query", queries), split("key", state), split("value", state)
    scores = query @ key.transpose(0, 1, 3, 2) / jnp.sqrt(query.shape[-1]) + bias
    mixed = (jax.nn.softmax(scores, axis=-1) @ value).transpose(0, 2, 1, 3).reshape(queries.shape)
    attended = _linear(params, f"{name}.attention.output.dense", mixed)
    return _norm(params, f"{name}.attention.output.LayerNorm", attended + queries)


def _linear(params: Params, name: str, state: jax.Array) -> jax.Array:
    return state @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def _norm(params: Params, name: str, state: jax.Array) -> jax.Array:
    mean = state.mean(axis=-1, keepdims=True)
    variance = state.var(axis=-1, keepdims=True)
    return (state - mean) * jax.lax.rsqrt(variance + EPSILON) * params[f"{name}.weight"] + params[f"{name}.bias"]
