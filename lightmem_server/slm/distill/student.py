"""The student before training: some of the teacher's layers, each with its most used inner neurons.

Layers spread evenly, as DistilBERT (Sanh et al. 2019) and MiniLM's shallow cross-encoders begin; neurons by how strongly
they act times how much is made of it, after Wanda (Sun et al. 2023), for whole neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.distill.batches import Pairs
from lightmem_server.slm.distill.bert import Params, count_layers, read
from lightmem_server.slm.distill.converted import read_converted
from lightmem_server.slm.npz import read_npz

Weights = Mapping[str, NDArray[np.float32]]


def strip_prefix(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """The weights without "bert." before their names."""
    return {name.removeprefix("bert."): array for name, array in weights.items()}


def chosen_layers(count: int, of: int) -> list[int]:
    """Which of the teacher's layers a student of `count` begins with: the first, the last, and those between in even steps.

    >>> chosen_layers(4, 12)
    [0, 4, 7, 11]
    """
    return [round(index) for index in np.linspace(0, of - 1, count)]


def imitated_layers(count: int, of: int) -> list[int]:
    """Which of the teacher's layers the states after each of a student's `count` are to be like.

    >>> imitated_layers(4, 12)
    [2, 5, 8, 11]
    """
    return [round((index + 1) * of / count) - 1 for index in range(count)]


def make_student(
    teacher: Weights, sample: Pairs, *, layers: int, width: int, heads: int
) -> dict[str, NDArray[np.float32]]:
    """A student's first weights.

    Args:
        teacher: Names without prefix.
        sample: Some pairs, to see which neurons are used.
        layers: Of the student.
        width: Its inner neurons per layer.
    """
    params: Params = {name: jnp.asarray(array) for name, array in teacher.items()}
    used: list[jax.Array] = []
    read(params, sample.ids, sample.types, sample.mask, heads=heads, activations=used)
    kept = {name: array for name, array in teacher.items() if not name.startswith("encoder.layer.")}
    for to, source in enumerate(chosen_layers(layers, count_layers(params))):
        prefix = f"encoder.layer.{source}."
        layer = {name.removeprefix(prefix): array for name, array in teacher.items() if name.startswith(prefix)}
        neurons = _most_used(np.asarray(used[source]), layer["output.dense.weight"], width)
        layer["intermediate.dense.weight"] = layer["intermediate.dense.weight"][neurons]
        layer["intermediate.dense.bias"] = layer["intermediate.dense.bias"][neurons]
        layer["output.dense.weight"] = layer["output.dense.weight"][:, neurons]
        kept |= {f"encoder.layer.{to}.{name}": np.ascontiguousarray(array) for name, array in layer.items()}
    return kept


def read_student(path: Path, *, like: Weights | None = None) -> dict[str, NDArray[np.float32]]:
    """The weights of a student that was trained, by name.

    Args:
        path: Of an .npz, or of the folder of a converted model.
        like: A student of the size that it has to have; None: any.

    Raises:
        ModelError: There are none.
        InvalidInputError: They are none of a cross-encoder, or of another size.
    """
    weights = read_converted(path) if path.is_dir() else read_npz(path)
    if like is not None and _shapes(weights) != _shapes(like):
        raise InvalidInputError("weights", f"{path} is a student of another size")
    return weights


def size_of(weights: Weights) -> tuple[int, int]:
    """A student's layers, and the inner neurons of the first.

    Raises:
        InvalidInputError: They are no student's.
    """
    bias = weights.get("encoder.layer.0.intermediate.dense.bias")
    try:
        layers = count_layers(weights)
    except ValueError as error:
        raise InvalidInputError("weights", f"these are no student's: {error}") from error
    if bias is None or bias.ndim != 1:
        raise InvalidInputError("weights", "these are no student's: no layer has inner neurons")
    return layers, len(bias)


def _shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in weights.items()}


def _most_used(activation: NDArray[np.float32], out: NDArray[np.float32], width: int) -> Sequence[int]:
    importance = activation * np.linalg.norm(out, axis=0)
    return sorted(np.argsort(-importance)[:width].tolist())
