"""Reads back what convert_bert wrote, so that a student can go on from a model that is in the package: 8-bit weights are within
half a step of those that were trained, which training soon mends.

Source of the format: ctranslate2/specs/model_spec.py, ModelSpec._serialize (MIT), version 6.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightmem_server.errors import InvalidInputError, ModelError
from lightmem_server.slm.convert import HEAD_FILE
from lightmem_server.slm.npz import read_npz

MODEL_FILE = "model.bin"
VERSION = 6
_DTYPES = (np.dtype("<f4"), np.dtype("i1"), np.dtype("<i2"), np.dtype("<i4"), np.dtype("<f2"))
"""By CTranslate2's number of the type."""
_ATTENTION = ("query", "key", "value")
_NAMES = {
    "encoder/embeddings_0/weight": "embeddings.word_embeddings.weight",
    "encoder/embeddings_1/weight": "embeddings.token_type_embeddings.weight",
    "encoder/position_encodings/encodings": "embeddings.position_embeddings.weight",
    "encoder/layernorm_embedding/gamma": "embeddings.LayerNorm.weight",
    "encoder/layernorm_embedding/beta": "embeddings.LayerNorm.bias",
    "pooler_dense/weight": "pooler.dense.weight",
    "pooler_dense/bias": "pooler.dense.bias",
}
_LAYER = {
    "self_attention/linear_1": "attention.output.dense",
    "self_attention/layer_norm": "attention.output.LayerNorm",
    "ffn/linear_0": "intermediate.dense",
    "ffn/linear_1": "output.dense",
    "ffn/layer_norm": "output.LayerNorm",
}
_PARTS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def read_converted(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The weights of a converted cross-encoder, names without prefix.

    Raises:
        InvalidInputError: There is none.
    """
    try:
        arrays = _dequantize(_read_arrays((folder / MODEL_FILE).read_bytes()))
        head = read_npz(folder / HEAD_FILE)
        weights = {"classifier.weight": head["weight"], "classifier.bias": head["bias"]}
        for name, array in arrays.items():
            weights |= _named(name, array)
    except (OSError, ValueError, KeyError, IndexError, struct.error, ModelError) as error:
        raise InvalidInputError("weights", f"{folder} holds no converted cross-encoder: {error}") from error
    return weights


def _named(name: str, array: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Under the names of BertModel; nothing of what isn't a weight."""
    if name in _NAMES:
        return {_NAMES[name]: array}
    if not name.startswith("encoder/layer_"):
        return {}
    layer, _, path = name.removeprefix("encoder/layer_").partition("/")
    module, _, part = path.rpartition("/")
    prefix = f"encoder.layer.{layer}"
    if module == "self_attention/linear_0" and part in _PARTS:
        thirds = np.split(array, len(_ATTENTION))
        return {f"{prefix}.attention.self.{each}.{part}": third for each, third in zip(_ATTENTION, thirds, strict=True)}
    return {f"{prefix}.{_LAYER[module]}.{_PARTS[part]}": array} if module in _LAYER and part in _PARTS else {}


def _dequantize(arrays: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    made = {}
    for name, array in arrays.items():
        scale = arrays.get(f"{name}_scale")
        values = array.astype(np.float32)
        made[name] = values if scale is None else values / scale.astype(np.float32)[:, None]
    return made


def _read_arrays(data: bytes) -> dict[str, NDArray[np.generic]]:
    reader = _Reader(data)
    if reader.number("I") != VERSION:
        raise ValueError("another version of the format")
    reader.text()
    reader.number("I")
    arrays = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        dtype = _DTYPES[reader.number("B")]
        arrays[name] = np.frombuffer(reader.take(reader.number("I")), dtype).reshape(shape)
    return arrays


class _Reader:
    """Over the bytes of model.bin, front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError("cut off")
        self._at += count
        return taken

    def number(self, form: str) -> int:
        return int(struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0])

    def text(self) -> str:
        return self.take(self.number("H")).rstrip(b"\0").decode("utf-8")
