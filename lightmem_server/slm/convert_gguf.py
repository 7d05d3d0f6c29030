"""Decoders in llama.cpp's GGUF files to CTranslate2, tensor by tensor, with neither torch nor transformers.

Chosen: the `gguf` package, llama.cpp's own, which reads the format and dequantizes its thirty block types. Refused: a
reader of our own (the block layouts are many and still change); running the GGUF as it is with llama.cpp, a second
inference engine for one role of three.

A tensor is dequantized and quantized to int8 a few rows at a time, so that the float32 model, 6 GB for 1.5 billion
weights, never exists. The result is what CTranslate2's own `optimize(quantization="int8")` makes: one scale per row.

Names of tensors are llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import common_spec, transformer_spec
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray

from lightmem_server.errors import ModelError
from lightmem_server.slm.convert import TOKENIZER_FILE
from lightmem_server.slm.gguf_tokenizer import make_tokenizer

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
"""ChatML: how every Writer of the manifest was taught to read a conversation."""

CHUNK_ELEMENTS = 1 << 24
"""Weights held in float32 at a time: 64 MB, and as much again for their products."""

TIED_ERROR = 0.2
"""Relative difference up to which two copies of a matrix, quantized apart, are taken for one: 4-bit blocks are about .08
off, unrelated matrices 1.4."""

Report = Callable[[int, int], None]
"""Hears (bytes done, bytes in all)."""


def convert_gguf(path: Path, out: Path, *, report: Report = lambda done, total: None) -> None:
    """Write a CTranslate2 generator folder: model.bin, config.json, vocabulary.json and tokenizer.json.

    Args:
        path: Of a Qwen2 or Llama architecture, with a ChatML vocabulary.
        out: Folder to make.
        report: Called after each tensor.

    Raises:
        ModelError: Not a GGUF file, or of something else.
    """
    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        reader.fields.clear()  # an object per token: 300 MB
        spec = _make_spec(fields, _Tensors(reader, report))
        tokens = fields["tokenizer.ggml.tokens"]
        spec.register_vocabulary(tokens)
        spec.config.bos_token = tokens[fields["tokenizer.ggml.bos_token_id"]]
        spec.config.eos_token = TURN_END
        unknown = fields.get("tokenizer.ggml.unknown_token_id")
        spec.config.unk_token = tokens[unknown] if unknown is not None else ""
        spec.config.layer_norm_epsilon = float(fields[f"{_architecture(fields)}.attention.layer_norm_rms_epsilon"])
        spec.validate()
        spec.optimize(None)  # makes one of equal arrays; the weights are quantized already
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"{path.name} is no GGUF file of a decoder that can be converted: {error}") from error
    if not {TURN_START, TURN_END} <= set(tokens):
        raise ModelError(f"{path.name} has no {TURN_START} and {TURN_END}: it was not taught ChatML")
    tokenizer = make_tokenizer(fields)
    out.mkdir(parents=True)
    spec.save(str(out))
    tokenizer.save(str(out / TOKENIZER_FILE))


def _architecture(fields: Mapping[str, Any]) -> str:
    architecture = str(fields["general.architecture"])
    if architecture not in ("qwen2", "llama"):
        raise ValueError(f"the architecture is {architecture}, neither qwen2 nor llama")
    return architecture


class _Tensors:
    """The tensors of a file, read as they are asked for."""

    def __init__(self, reader: GGUFReader, report: Report) -> None:
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._report = report
        self._done = 0
        self._total = sum(int(tensor.n_bytes) for tensor in reader.tensors)
        self._report(0, self._total)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def read(self, name: str) -> NDArray[np.float32]:
        """A small tensor, whole."""
        tensor = self._tensors[name]
        array = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
        self._count(name)
        return array

    def read_rows(self, name: str, rows: slice) -> NDArray[np.float32]:
        """Some rows of a matrix."""
        tensor = self._tensors[name]
        return np.array(dequantize(tensor.data[rows], tensor.tensor_type), np.float32)

    def read_int8(self, name: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """A matrix, quantized row by row: values (rows, columns), scales (rows,)."""
        columns, rows = (int(length) for length in self._tensors[name].shape)  # GGUF counts the fastest axis first
        values, scales = np.empty((rows, columns), np.int8), np.empty(rows, np.float32)
        step = max(1, CHUNK_ELEMENTS // columns)
        for start in range(0, rows, step):
            chunk = slice(start, start + step)
            values[chunk], scales[chunk] = quantize_rows(self.read_rows(name, chunk))
        self._count(name)
        return values, scales

    def _count(self, name: str) -> None:
        self._done += int(self._tensors[name].n_bytes)
        self._report(self._done, self._total)


def quantize_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 with one scale per row, as CTranslate2 quantizes: value = rint(weight * scale), scale = 127 / largest.

    >>> values, scales = quantize_rows(np.array([[1.0, -0.5], [0.0, 0.0]], np.float32))
    >>> values.tolist(), scales.tolist()
    ([[127, -64], [0, 0]], [127.0, 1.0])
    """
    largest = np.abs(matrix).max(axis=1)
    largest[largest == 0] = 127.0
    scales = (np.float32(127.0) / largest).astype(np.float32)
    return np.rint(matrix * scales[:, np.newaxis]).astype(np.int8), scales


def _make_spec(fields: Mapping[str, Any], tensors: _Tensors) -> transformer_spec.TransformerDecoderModelSpec:
    architecture = _architecture(fields)
    heads = int(fields[f"{architecture}.attention.head_count"])
    heads_kv = int(fields[f"{architecture}.attention.head_count_kv"])
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        int(fields[f"{architecture}.block_count"]),
        heads,
        pre_norm=True,
        activation=common_spec.Activation.SWISH,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,  # all dimensions of a head
        rotary_interleave=False,
        rotary_base=float(fields.get(f"{architecture}.rope.freq_base", 10_000.0)),
        num_heads_kv=None if heads_kv == heads else heads_kv,
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    _fill_embeddings(decoder, tensors)
    decoder.layer_norm.gamma = tensors.read("output_norm.weight")
    # llama.cpp stores the query and key rows of Llamas in another order than the one that CTranslate2 computes with.
    row_heads = (heads, heads_kv, None) if architecture == "llama" else (None, None, None)
    for index, layer in enumerate(decoder.layer):
        block = f"blk.{index}"
        layer.self_attention.layer_norm.gamma = tensors.read(f"{block}.attn_norm.weight")
        layer.ffn.layer_norm.gamma = tensors.read(f"{block}.ffn_norm.weight")
        _fill_attention(layer.self_attention.linear[0], block, row_heads, tensors)
        for linear, name in (
            (layer.self_attention.linear[1], "attn_output"),
            (layer.ffn.linear_0, "ffn_gate"),
            (layer.ffn.linear_0_noact, "ffn_up"),
            (layer.ffn.linear_1, "ffn_down"),
        ):
            linear.weight, linear.weight_scale = tensors.read_int8(f"{block}.{name}.weight")
    return spec


def _fill_embeddings(decoder: transformer_spec.TransformerDecoderSpec, tensors: _Tensors) -> None:
    """The words' vectors and the output projection. Most small models tie them, and some files hold both copies, the
    output's in more bits: then that one serves for both."""
    projection = "output.weight" if "output.weight" in tensors else "token_embd.weight"
    weight, scale = tensors.read_int8(projection)
    decoder.projection.weight, decoder.projection.weight_scale = weight, scale
    if projection != "token_embd.weight" and not _are_tied(tensors):
        weight, scale = tensors.read_int8("token_embd.weight")
    decoder.embeddings.weight, decoder.embeddings.weight_scale = weight, scale


def _are_tied(tensors: _Tensors) -> bool:
    rows = slice(0, 256)
    one, other = tensors.read_rows("token_embd.weight", rows), tensors.read_rows("output.weight", rows)
    return bool(np.linalg.norm(one - other) < TIED_ERROR * np.linalg.norm(other))


def _fill_attention(
    linear: common_spec.LinearSpec, block: str, row_heads: tuple[int | None, ...], tensors: _Tensors
) -> None:
    """Query, key and value in one matrix. Scales are per row, so that quantizing apart and joining is the same."""
    weights, scales, biases = [], [], []
    for part, heads in zip("qkv", row_heads, strict=True):
        weight, scale = tensors.read_int8(f"{block}.attn_{part}.weight")
        order = np.arange(len(weight)) if heads is None else rotary_order(len(weight), heads)
        weights.append(weight[order])
        scales.append(scale[order])
        if f"{block}.attn_{part}.bias" in tensors:
            biases.append(tensors.read(f"{block}.attn_{part}.bias")[order])
    linear.weight, linear.weight_scale = np.concatenate(weights), np.concatenate(scales)
    if biases:
        linear.bias = np.concatenate(biases)


def rotary_order(rows: int, heads: int) -> NDArray[np.intp]:
    """Where llama.cpp put each row of a Llama's query or key matrix: it interleaves the halves of a head, so that the two
    numbers that are turned together lie side by side.

    >>> rotary_order(8, 2).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)
