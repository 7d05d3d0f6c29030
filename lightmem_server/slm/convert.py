"""BERT encoders to CTranslate2, with neither torch nor transformers.

Chosen: CTranslate2's own spec classes, filled from NumPy arrays. Refused: its TransformersConverter, which needs torch
(2 GB) for what is a renaming of 200 arrays; running the ONNX file as it is, for which CTranslate2 was measured faster on
CPUs. From safetensors the result is byte for byte what TransformersConverter writes.

Names of weights are those of Hugging Face's BertModel, with or without a prefix such as "bert.".
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import ctranslate2.converters.utils
import ctranslate2.specs
import numpy as np
import onnx
import onnx.numpy_helper
from ctranslate2.specs import common_spec, transformer_spec
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightmem_server.errors import ModelError

HEAD_FILE = "head.npz"
"""A cross-encoder's last layer, which CTranslate2's encoders don't have: arrays `weight` (1, dim) and `bias` (1,)."""

TOKENIZER_FILE = "tokenizer.json"

Weights: TypeAlias = Mapping[str, NDArray[np.float32]]

_WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}


def read_safetensors(path: Path) -> Weights:
    """The floating-point tensors of a safetensors file, as float32.

    Raises:
        ModelError: Not such a file, or cut short.

    Source: the format's README, https://github.com/huggingface/safetensors#format.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
        header_bytes = int.from_bytes(data[:8].tobytes(), "little")
        header: dict[str, Any] = json.loads(data[8 : 8 + header_bytes].tobytes())
        header.pop("__metadata__", None)
        body = data[8 + header_bytes :]
        weights = {}
        for name, tensor in header.items():
            dtype = _DTYPES[tensor["dtype"]]
            begin, end = tensor["data_offsets"]
            array = np.frombuffer(body[begin:end].tobytes(), dtype=dtype).reshape(tensor["shape"])
            if dtype.kind == "f":
                weights[name] = array.astype(np.float32)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path.name} is not a safetensors file of a BERT model: {error}") from error
    return weights


def read_quantized_onnx(path: Path) -> Weights:
    """The weights of a BERT that onnxruntime quantized dynamically to 8 bits, as float32 and under their first names.

    Quantized matrices lose their names in such a file; the node that multiplies by one keeps the path of its layer,
    such as `/bert/encoder/layer.0/attention/self/query/MatMul_quant`.

    Args:
        path: A file whose sha256 has been checked: what is no ONNX file at all ends in an error of protobuf's own.

    Raises:
        ModelError: An ONNX file of something else.
    """
    try:
        graph = onnx.load(str(path)).graph
        arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        weights = {
            name: array
            for name, array in arrays.items()
            if array.dtype == np.float32 and name.endswith((".weight", ".bias"))
        }
        suffix = "_quantized"
        for name in arrays:
            if name.endswith(suffix) and "embeddings" in name:
                weights[name.removesuffix(suffix)] = _dequantize(arrays, name.removesuffix(suffix))
        for node in graph.node:
            if node.op_type == "MatMulInteger" and node.input[1].endswith(suffix):
                layer = node.name.strip("/").rpartition("/")[0].replace("/", ".")
                matrix = _dequantize(arrays, node.input[1].removesuffix(suffix))
                weights[f"{layer}.weight"] = np.ascontiguousarray(matrix.T)  # (in, out) to Linear's (out, in)
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path.name} is not an 8-bit ONNX file of a BERT model: {error}") from error
    return weights


def _dequantize(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    """(q - zero point) * scale, both per tensor or per last axis."""
    quantized = arrays[f"{name}_quantized"].astype(np.float32)
    zero_point = arrays[f"{name}_zero_point"].astype(np.float32)
    dequantized: NDArray[np.float32] = (quantized - zero_point) * arrays[f"{name}_scale"].astype(np.float32)
    return dequantized


READERS = {"safetensors": read_safetensors, "onnx": read_quantized_onnx}
"""By the manifest's `format`."""


def convert_bert(
    weights: Weights,
    tokenizer_json: Path,
    out: Path,
    *,
    heads: int,
    is_cross_encoder: bool,
    quantization: str = "int8",
    layer_norm_epsilon: float = 1e-12,
) -> None:
    """Write a CTranslate2 encoder folder: model.bin, config.json, the vocabulary, tokenizer.json and, for a cross-encoder,
    its head.

    Args:
        weights: Of a BertModel, or of a BertForSequenceClassification with one label.
        tokenizer_json: Its tokenizer; copied.
        out: Folder to make.
        heads: Attention heads.
        is_cross_encoder: Keep the pooler (CTranslate2 then applies it, and its tanh) and the classifier.
        quantization: Of the stored weights; one of CTranslate2's.

    Raises:
        ModelError: Weights are missing or have other shapes than a BERT's.
    """
    try:
        spec = _make_spec(weights, heads=heads, is_cross_encoder=is_cross_encoder)
        spec.register_vocabulary(_read_vocabulary(tokenizer_json))
        spec.config.unk_token = "[UNK]"  # noqa: S105 - a word piece
        spec.config.layer_norm_epsilon = layer_norm_epsilon
        spec.validate()
        spec.optimize(quantization=quantization)
    except (KeyError, ValueError, StopIteration) as error:
        raise ModelError(f"the weights are not those of a BERT that can be converted: {error}") from error
    out.mkdir(parents=True)
    spec.save(str(out))
    shutil.copyfile(tokenizer_json, out / TOKENIZER_FILE)
    if is_cross_encoder:
        np.savez(out / HEAD_FILE, weight=weights["classifier.weight"], bias=weights["classifier.bias"])


def _make_spec(weights: Weights, *, heads: int, is_cross_encoder: bool) -> transformer_spec.TransformerEncoderModelSpec:
    prefix = next(name for name in weights if name.endswith(_WORD_EMBEDDINGS)).removesuffix(_WORD_EMBEDDINGS)

    def read(name: str) -> NDArray[np.float32]:
        return np.array(weights[prefix + name], dtype=np.float32)  # a copy: quantization works in place

    def fill_linear(spec: common_spec.LinearSpec, name: str) -> None:
        spec.weight, spec.bias = read(f"{name}.weight"), read(f"{name}.bias")

    def fill_norm(spec: common_spec.LayerNormSpec, name: str) -> None:
        spec.gamma, spec.beta = read(f"{name}.weight"), read(f"{name}.bias")

    layer_prefix = f"{prefix}encoder.layer."
    layers = 1 + max(
        int(name.removeprefix(layer_prefix).partition(".")[0]) for name in weights if name.startswith(layer_prefix)
    )
    encoder = transformer_spec.TransformerEncoderSpec(
        layers,
        heads,
        pre_norm=False,
        activation=common_spec.Activation.GELU,
        layernorm_embedding=True,
        num_source_embeddings=2,  # words and token types
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
    )
    encoder.scale_embeddings = False
    model = transformer_spec.TransformerEncoderModelSpec(
        encoder, pooling_layer=is_cross_encoder, pooling_activation=common_spec.Activation.Tanh
    )
    if is_cross_encoder:
        if weights["classifier.weight"].shape[0] != 1:
            raise ValueError("the classifier has more than one label")
        fill_linear(model.pooler_dense, "pooler.dense")
    encoder.embeddings[0].weight = read(_WORD_EMBEDDINGS)
    encoder.embeddings[1].weight = read("embeddings.token_type_embeddings.weight")
    encoder.position_encodings.encodings = read("embeddings.position_embeddings.weight")
    fill_norm(encoder.layernorm_embedding, "embeddings.LayerNorm")
    for index, layer in enumerate(encoder.layer):
        name = f"encoder.layer.{index}"
        projections = [common_spec.LinearSpec() for _ in range(3)]
        for projection, part in zip(projections, ("query", "key", "value"), strict=True):
            fill_linear(projection, f"{name}.attention.self.{part}")
        ctranslate2.converters.utils.fuse_linear(layer.self_attention.linear[0], projections)
        fill_linear(layer.self_attention.linear[1], f"{name}.attention.output.dense")
        fill_norm(layer.self_attention.layer_norm, f"{name}.attention.output.LayerNorm")
        fill_linear(layer.ffn.linear_0, f"{name}.intermediate.dense")
        fill_linear(layer.ffn.linear_1, f"{name}.output.dense")
        fill_norm(layer.ffn.layer_norm, f"{name}.output.LayerNorm")
    return model


def _read_vocabulary(tokenizer_json: Path) -> Sequence[str]:
    """Tokens in the order of their ids."""
    ids = Tokenizer.from_file(str(tokenizer_json)).get_vocab(with_added_tokens=True)
    return sorted(ids, key=ids.__getitem__)
