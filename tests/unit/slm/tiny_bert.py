"""A BERT of 2 layers with random weights, in the file formats that models come in, and its forward pass in plain NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from lightmem_server.slm.convert import convert_bert
from lightmem_server.slm.manifest import ModelRole, ModelSpec, Pooling
from lightmem_server.slm.models import DESCRIPTION_FILE, InstalledFile, InstalledModel, hash_file

DIM, HEADS, LAYERS, FFN, MAX_TOKENS = 32, 4, 2, 64, 24
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "on",
    "mat",
    "moon",
    "red",
    "blue",
    "tea",
    "likes",
    "drinks",
    "who",
    "what",
    "where",
    "is",
    "in",
    "paris",
    "lives",
    "anna",
    "ben",
]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ing"]

Weights = dict[str, NDArray[np.float32]]


def make_tokenizer(path: Path) -> None:
    """Writes a tokenizer.json like BERT's. It asks for padding and truncation, as published files do."""
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(VOCABULARY[:5])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(5)
    tokenizer.save(str(path))


def make_weights(seed: int, *, is_cross_encoder: bool) -> Weights:
    """By Hugging Face's names; scaled so that activations stay lively through the layers."""
    random = np.random.default_rng(seed)
    prefix = "bert." if is_cross_encoder else ""
    weights: Weights = {}

    def linear(name: str, rows: int, columns: int) -> None:
        weights[f"{name}.weight"] = (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        weights[f"{name}.bias"] = (random.standard_normal(rows) * 0.1).astype(np.float32)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = (1 + random.standard_normal(DIM) * 0.1).astype(np.float32)
        weights[f"{name}.bias"] = (random.standard_normal(DIM) * 0.1).astype(np.float32)

    for name, rows in (("word", len(VOCABULARY)), ("position", MAX_TOKENS), ("token_type", 2)):
        table = random.standard_normal((rows, DIM)).astype(np.float32)
        weights[f"{prefix}embeddings.{name}_embeddings.weight"] = table
    norm(f"{prefix}embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"{prefix}encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{name}.attention.self.{part}", DIM, DIM)
        linear(f"{name}.attention.output.dense", DIM, DIM)
        norm(f"{name}.attention.output.LayerNorm")
        linear(f"{name}.intermediate.dense", FFN, DIM)
        linear(f"{name}.output.dense", DIM, FFN)
        norm(f"{name}.output.LayerNorm")
    if is_cross_encoder:
        linear("bert.pooler.dense", DIM, DIM)
        linear("classifier", 1, DIM)
    return weights


def forward(weights: Weights, ids: list[int], type_ids: list[int]) -> NDArray[np.float32]:
    """BERT as in Devlin et al. 2019, one sequence: (tokens,) to (tokens, DIM)."""
    prefix = "bert." if any(name.startswith("bert.") for name in weights) else ""

    def linear(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        return x @ weights[f"{prefix}{name}.weight"].T + weights[f"{prefix}{name}.bias"]

    def norm(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        return scaled * weights[f"{prefix}{name}.weight"] + weights[f"{prefix}{name}.bias"]

    def table(name: str) -> NDArray[np.float32]:
        return weights[f"{prefix}embeddings.{name}_embeddings.weight"]

    x = norm(table("word")[ids] + table("position")[: len(ids)] + table("token_type")[type_ids], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            linear(x, f"{name}.attention.self.{part}").reshape(len(ids), HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / np.sqrt(DIM / HEADS)
        attention = np.exp(scores - scores.max(axis=2, keepdims=True))
        attention /= attention.sum(axis=2, keepdims=True)
        context = (attention @ value).swapaxes(0, 1).reshape(len(ids), DIM)
        x = norm(x + linear(context, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = linear(x, f"{name}.intermediate.dense")
        gelu = inner * 0.5 * (1 + _erf(inner / np.sqrt(2)))
        x = norm(x + linear(gelu, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    return x


def _erf(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Abramowitz and Stegun 7.1.26, error below 1.5e-7."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - poly * np.exp(-(x**2)))


def logit(weights: Weights, ids: list[int], type_ids: list[int]) -> float:
    """BertForSequenceClassification's."""
    first = forward(weights, ids, type_ids)[0]
    pooled = np.tanh(weights["bert.pooler.dense.weight"] @ first + weights["bert.pooler.dense.bias"])
    return float((weights["classifier.weight"] @ pooled + weights["classifier.bias"])[0])


def write_safetensors(path: Path, weights: Weights) -> None:
    """As the safetensors library does."""
    header, offset = {}, 0
    for name, array in weights.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in weights.values()))


def write_quantized_onnx(path: Path, weights: Weights) -> None:
    """The initializers and multiplications of a graph that onnxruntime quantized dynamically; it need not run."""
    initializers, nodes = [], []

    def quantize(name: str, array: NDArray[np.float32]) -> None:
        scale = np.float32(max(np.abs(array).max() / 127, 1e-9))
        for suffix, value in (
            ("quantized", np.round(array / scale).astype(np.int8)),
            ("scale", np.array(scale)),
            ("zero_point", np.array(0, np.int8)),
        ):
            initializers.append(onnx.numpy_helper.from_array(value, f"{name}_{suffix}"))

    for number, (name, array) in enumerate(weights.items()):
        if "_embeddings.weight" in name:
            quantize(name, array)
        elif name.endswith(".weight") and array.ndim == 2:
            matrix = f"onnx::MatMul_{number}"
            quantize(matrix, np.ascontiguousarray(array.T))
            layer = "/" + name.removesuffix(".weight").replace("layer.", "layer@").replace(".", "/").replace("@", ".")
            nodes.append(
                onnx.helper.make_node(
                    "MatMulInteger", ["x", f"{matrix}_quantized"], ["y"], name=f"{layer}/MatMul_quant"
                )
            )
        else:
            initializers.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "bert", [], [], initializers)), str(path))


def make_spec(role: ModelRole, *, pooling: Pooling = Pooling.CLS) -> ModelSpec:
    """The tiny model's properties."""
    if role is ModelRole.SELECTOR:
        return ModelSpec(role=role, licence="none", dim=DIM, heads=HEADS, max_tokens=MAX_TOKENS)
    return ModelSpec(
        role=role, licence="none", dim=DIM, heads=HEADS, max_tokens=MAX_TOKENS, pooling=pooling, query_prefix="what is "
    )


def install(
    directory: Path,
    name: str,
    role: ModelRole,
    *,
    pooling: Pooling = Pooling.CLS,
    quantization: str = "int8",
    seed: int = 1,
) -> Weights:
    """Put a converted tiny model where a pull would. Returns the weights that it was made from."""
    weights = make_weights(seed, is_cross_encoder=role is ModelRole.SELECTOR)
    directory.mkdir(exist_ok=True)
    tokenizer = directory / f"{name}.tokenizer.json"
    make_tokenizer(tokenizer)
    folder = directory / name
    convert_bert(
        weights,
        tokenizer,
        folder,
        heads=HEADS,
        is_cross_encoder=role is ModelRole.SELECTOR,
        quantization=quantization,
    )
    installed = InstalledModel(
        name=name,
        fingerprint="tiny",
        source="random",
        quantization=quantization,
        spec=make_spec(role, pooling=pooling),
        files={
            path.name: InstalledFile(size_bytes=path.stat().st_size, sha256=hash_file(path))
            for path in folder.iterdir()
        },
    )
    (folder / DESCRIPTION_FILE).write_text(installed.model_dump_json())
    return weights
