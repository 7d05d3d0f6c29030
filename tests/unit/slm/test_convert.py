"""Conversion: the converted model computes what the weights say."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import numpy as np
import pytest

from lightmem_server.errors import ModelError
from lightmem_server.slm.convert import HEAD_FILE, convert_bert, read_quantized_onnx, read_safetensors
from tests.unit.slm import tiny_bert

IDS, TYPES = [2, 5, 7, 9, 3, 8, 11, 3], [0, 0, 0, 0, 0, 1, 1, 1]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    tiny_bert.make_tokenizer(path)
    return path


def test_converted_encoder_computes_the_hidden_states_of_bert(tmp_path: Path, tokenizer: Path) -> None:
    weights = tiny_bert.make_weights(1, is_cross_encoder=False)
    out = tmp_path / "out"
    convert_bert(weights, tokenizer, out, heads=4, is_cross_encoder=False, quantization="float32")
    model = ctranslate2.Encoder(str(out))
    hidden = np.array(model.forward_batch([IDS], token_type_ids=[TYPES]).last_hidden_state)
    np.testing.assert_allclose(hidden[0], tiny_bert.forward(weights, IDS, TYPES), atol=2e-4)


def test_converted_cross_encoder_and_head_compute_the_logit(tmp_path: Path, tokenizer: Path) -> None:
    weights = tiny_bert.make_weights(2, is_cross_encoder=True)
    out = tmp_path / "out"
    convert_bert(weights, tokenizer, out, heads=4, is_cross_encoder=True, quantization="float32")
    pooled = np.array(ctranslate2.Encoder(str(out)).forward_batch([IDS], token_type_ids=[TYPES]).pooler_output)
    with np.load(out / HEAD_FILE) as head:
        logit = (pooled @ head["weight"].T + head["bias"])[0, 0]
    assert logit == pytest.approx(tiny_bert.logit(weights, IDS, TYPES), abs=2e-4)


def test_int8_stays_near_float32(tmp_path: Path, tokenizer: Path) -> None:
    weights = tiny_bert.make_weights(1, is_cross_encoder=False)
    convert_bert(weights, tokenizer, tmp_path / "out", heads=4, is_cross_encoder=False)
    model = ctranslate2.Encoder(str(tmp_path / "out"), compute_type="int8")
    got = np.array(model.forward_batch([IDS], token_type_ids=[TYPES]).last_hidden_state)[0, 0]
    want = tiny_bert.forward(weights, IDS, TYPES)[0]
    assert got @ want / np.linalg.norm(got) / np.linalg.norm(want) > 0.99


def test_conversion_leaves_the_weights_as_they_were(tmp_path: Path, tokenizer: Path) -> None:
    weights = tiny_bert.make_weights(1, is_cross_encoder=False)
    before = {name: array.copy() for name, array in weights.items()}
    convert_bert(weights, tokenizer, tmp_path / "out", heads=4, is_cross_encoder=False)
    for name, array in weights.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("is_cross_encoder", [False, True], ids=["embedder", "cross-encoder"])
def test_safetensors_reads_what_was_written(tmp_path: Path, is_cross_encoder: bool) -> None:
    weights = tiny_bert.make_weights(3, is_cross_encoder=is_cross_encoder)
    tiny_bert.write_safetensors(tmp_path / "w", weights)
    read = read_safetensors(tmp_path / "w")
    assert read.keys() == weights.keys()
    for name in weights:
        np.testing.assert_array_equal(read[name], weights[name])


@pytest.mark.parametrize("is_cross_encoder", [False, True], ids=["embedder", "cross-encoder"])
def test_quantized_onnx_gives_every_weight_within_half_a_step(tmp_path: Path, is_cross_encoder: bool) -> None:
    weights = tiny_bert.make_weights(3, is_cross_encoder=is_cross_encoder)
    tiny_bert.write_quantized_onnx(tmp_path / "w", weights)
    read = read_quantized_onnx(tmp_path / "w")
    assert read.keys() == weights.keys()
    for name, want in weights.items():
        np.testing.assert_allclose(read[name], want, atol=np.abs(want).max() / 127 * 0.501)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x10", (2).to_bytes(8, "little") + b"{]", (99).to_bytes(8, "little") + b'{"a": {}}'],
    ids=["empty", "short", "no-json", "cut"],
)
def test_what_is_no_safetensors_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ModelError, match="w is not a safetensors file"):
        read_safetensors(tmp_path / "w")


def test_cut_safetensors_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "w"
    tiny_bert.write_safetensors(path, tiny_bert.make_weights(3, is_cross_encoder=False))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError):
        read_safetensors(path)


@pytest.mark.parametrize(
    "missing", ["embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.bias"], ids=["embeddings", "bias"]
)
def test_missing_weights_are_a_model_error(tmp_path: Path, tokenizer: Path, missing: str) -> None:
    weights = tiny_bert.make_weights(1, is_cross_encoder=False)
    del weights[missing]
    with pytest.raises(ModelError, match="not those of a BERT"):
        convert_bert(weights, tokenizer, tmp_path / "out", heads=4, is_cross_encoder=False)


def test_a_classifier_with_several_labels_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    weights = tiny_bert.make_weights(1, is_cross_encoder=True)
    weights["classifier.weight"] = np.repeat(weights["classifier.weight"], 3, axis=0)
    with pytest.raises(ModelError, match="more than one label"):
        convert_bert(weights, tokenizer, tmp_path / "out", heads=4, is_cross_encoder=True)
