"""Tiny random decoders as GGUF files, and what they compute, written down a second time in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from lightmem_server.slm.convert_gguf import convert_gguf
from lightmem_server.slm.manifest import ModelRole, ModelSpec
from lightmem_server.slm.models import DESCRIPTION_FILE, InstalledFile, InstalledModel, hash_file

DIM, HEADS, HEADS_KV, LAYERS, FFN = 64, 4, 2, 2, 96
ROPE_BASE, EPSILON = 10_000.0, 1e-6
MERGES = ["t h", "th e", "Ġ the", "a n", "Ġ a"]
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES), *CONTROL]

Weights = dict[str, NDArray[np.float32]]


def make_weights(seed: int, *, has_bias: bool) -> Weights:
    """Under llama.cpp's names, the query and key rows in the order of the model's authors."""
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return random.standard_normal((rows, columns)).astype(np.float32) / np.float32(np.sqrt(columns))

    weights = {"token_embd.weight": matrix(len(TOKENS), DIM) * 4, "output_norm.weight": 1 + matrix(1, DIM)[0]}
    kv = DIM * HEADS_KV // HEADS
    for i in range(LAYERS):
        for name, rows, columns in (
            ("attn_q", DIM, DIM),
            ("attn_k", kv, DIM),
            ("attn_v", kv, DIM),
            ("attn_output", DIM, DIM),
            ("ffn_gate", FFN, DIM),
            ("ffn_up", FFN, DIM),
            ("ffn_down", DIM, FFN),
        ):
            weights[f"blk.{i}.{name}.weight"] = matrix(rows, columns)
            if has_bias and name in ("attn_q", "attn_k", "attn_v"):
                weights[f"blk.{i}.{name}.bias"] = matrix(1, rows)[0]
        for name in ("attn_norm", "ffn_norm"):
            weights[f"blk.{i}.{name}.weight"] = 1 + matrix(1, DIM)[0]
    return weights


def write(path: Path, weights: Weights, *, architecture: str = "qwen2", pre: str = "qwen2", **fields: object) -> Path:
    """Write a GGUF: matrices in 8-bit blocks, Llamas' query and key rows interleaved as llama.cpp does."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(DIM)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS_KV)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = [str(token) for token in fields.get("tokens", TOKENS)]  # type: ignore[attr-defined]
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(TOKENS.index("<|endoftext|>"))
    writer.add_eos_token_id(TOKENS.index("<|im_end|>"))
    for name, array in weights.items():
        stored = array
        if architecture == "llama" and name.endswith(("attn_q.weight", "attn_k.weight")):
            heads = HEADS if "attn_q" in name else HEADS_KV
            stored = array.reshape(heads, 2, -1, DIM).swapaxes(1, 2).reshape(array.shape)
        if array.ndim == 2:
            q8 = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(stored, q8), raw_dtype=q8)
        else:
            writer.add_tensor(name, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def compute_logits(weights: Mapping[str, NDArray[np.float32]], ids: Sequence[int]) -> NDArray[np.float64]:
    """Logits (n, vocabulary) of a sequence: RMS norms before each part, rotary positions over the two halves of a head,
    shared keys and values, SwiGLU, tied output."""

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + EPSILON) * weights[name]

    def linear(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        made: NDArray[np.float64] = x @ weights[f"{name}.weight"].T
        return made + weights[f"{name}.bias"] if f"{name}.bias" in weights else made

    def rotate(x: NDArray[np.float64]) -> NDArray[np.float64]:
        half = x.shape[-1] // 2
        angles = np.arange(len(x))[:, None] / ROPE_BASE ** (np.arange(half) / half)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        first, second = x[..., :half], x[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    n, size = len(ids), DIM // HEADS
    x = weights["token_embd.weight"][list(ids)].astype(np.float64)
    for i in range(LAYERS):
        block = f"blk.{i}"
        h = norm(x, f"{block}.attn_norm.weight")
        q = rotate(linear(h, f"{block}.attn_q").reshape(n, HEADS, size))
        k = rotate(linear(h, f"{block}.attn_k").reshape(n, HEADS_KV, size)).repeat(HEADS // HEADS_KV, axis=1)
        v = linear(h, f"{block}.attn_v").reshape(n, HEADS_KV, size).repeat(HEADS // HEADS_KV, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size) + np.triu(np.full((n, n), -1e30), 1)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        x = x + linear(np.einsum("hqk,khd->qhd", shares, v).reshape(n, DIM), f"{block}.attn_output")
        h = norm(x, f"{block}.ffn_norm.weight")
        gate = linear(h, f"{block}.ffn_gate")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, f"{block}.ffn_up"), f"{block}.ffn_down")
    logits: NDArray[np.float64] = norm(x, "output_norm.weight") @ weights["token_embd.weight"].T
    return logits


def make_spec() -> ModelSpec:
    return ModelSpec(role=ModelRole.WRITER, licence="none", dim=DIM, heads=HEADS, max_tokens=256)


def install(directory: Path, name: str, seed: int = 1) -> None:
    """Put a tiny Writer where a pull would."""
    directory.mkdir(parents=True, exist_ok=True)
    gguf_file = write(directory / f".{name}.gguf", make_weights(seed, has_bias=True))
    convert_gguf(gguf_file, directory / name)
    gguf_file.unlink()
    installed = InstalledModel(
        name=name,
        fingerprint="tiny",
        source="tiny",
        quantization="int8",
        spec=make_spec(),
        files={
            path.name: InstalledFile(size_bytes=path.stat().st_size, sha256=hash_file(path))
            for path in (directory / name).iterdir()
        },
    )
    (directory / name / DESCRIPTION_FILE).write_text(installed.model_dump_json())
