"""GGUF decoders to CTranslate2: they compute what the weights say, and refuse what they can't."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lightmem_server.errors import ModelError
from lightmem_server.slm import convert_gguf as module
from lightmem_server.slm.convert_gguf import convert_gguf, quantize_rows, rotary_order
from lightmem_server.slm.gguf_tokenizer import make_tokenizer
from tests.unit.slm import tiny_gguf

IDS = [5, 250, 17, 80, 80, 3, 199, 40, 260, 12]


@pytest.mark.parametrize(("architecture", "pre", "has_bias"), [("qwen2", "qwen2", True), ("llama", "smollm", False)])
def test_the_converted_model_computes_what_its_weights_say(
    tmp_path: Path, architecture: str, pre: str, has_bias: bool
) -> None:
    weights = tiny_gguf.make_weights(3, has_bias=has_bias)
    source = tiny_gguf.write(tmp_path / "m.gguf", weights, architecture=architecture, pre=pre)
    convert_gguf(source, tmp_path / "m")
    generator = ctranslate2.Generator(str(tmp_path / "m"), compute_type="float32")
    logits = np.array(generator.forward_batch([IDS]))[0]
    expected = tiny_gguf.compute_logits(weights, IDS)
    cosines = (logits * expected).sum(axis=1) / np.linalg.norm(logits, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.999, "within what two roundings to 8 bits lose"


def test_weights_are_what_ctranslate2s_own_quantization_makes_of_them() -> None:
    from ctranslate2.specs import common_spec

    matrix = np.random.default_rng(1).standard_normal((50, 30)).astype(np.float32)
    matrix[7] = 0
    spec = common_spec.LinearSpec()
    spec.weight, spec.bias = matrix.copy(), np.zeros(50, np.float32)
    spec.validate()
    spec.optimize(quantization="int8")
    values, scales = quantize_rows(matrix)
    np.testing.assert_array_equal(values, spec.weight.numpy())
    np.testing.assert_array_equal(scales, spec.weight_scale.numpy())


def test_a_matrix_is_the_same_in_however_many_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_gguf.write(tmp_path / "m.gguf", tiny_gguf.make_weights(4, has_bias=True))
    convert_gguf(source, tmp_path / "whole")
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 7 * tiny_gguf.DIM)
    convert_gguf(source, tmp_path / "pieces")
    assert (tmp_path / "whole" / "model.bin").read_bytes() == (tmp_path / "pieces" / "model.bin").read_bytes()


@pytest.mark.parametrize("is_tied", [True, False], ids=["a-copy", "its-own"])
def test_an_output_matrix_beside_the_embeddings_is_shared_only_when_it_is_a_copy(tmp_path: Path, is_tied: bool) -> None:
    weights = tiny_gguf.make_weights(5, has_bias=True)
    other = tiny_gguf.make_weights(6, has_bias=True)["token_embd.weight"]
    output = weights["token_embd.weight"] * np.float32(1.01) if is_tied else other
    source = tiny_gguf.write(tmp_path / "m.gguf", {**weights, "output.weight": output})
    convert_gguf(source, tmp_path / "m")
    size = (tmp_path / "m" / "model.bin").stat().st_size
    convert_gguf(tiny_gguf.write(tmp_path / "n.gguf", weights), tmp_path / "n")
    extra = size - (tmp_path / "n" / "model.bin").stat().st_size
    assert (extra > output.size) is not is_tied
    ctranslate2.Generator(str(tmp_path / "m"))


def test_progress_is_reported_to_the_last_byte(tmp_path: Path) -> None:
    source = tiny_gguf.write(tmp_path / "m.gguf", tiny_gguf.make_weights(4, has_bias=True))
    reports: list[tuple[int, int]] = []
    convert_gguf(source, tmp_path / "m", report=lambda done, total: reports.append((done, total)))
    done = [one for one, _ in reports]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, reports[0][1])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"architecture": "gemma"}, "architecture is gemma"),
        ({"pre": "starcoder"}, "gpt2/starcoder"),
        ({"tokens": [t.replace("im_end", "end") for t in tiny_gguf.TOKENS]}, "ChatML"),
        ({"tokens": tiny_gguf.TOKENS[1:]}, "vocabulary"),
    ],
    ids=["architecture", "pre-tokenizer", "no-chat", "too-few-tokens"],
)
def test_another_kind_of_model_is_refused_and_leaves_nothing(
    tmp_path: Path, change: dict[str, object], what: str
) -> None:
    weights = tiny_gguf.make_weights(3, has_bias=True)
    source = tiny_gguf.write(tmp_path / "m.gguf", weights, **change)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=f"(?i){what}"):
        convert_gguf(source, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = tiny_gguf.make_weights(3, has_bias=True)
    del weights["blk.1.ffn_up.weight"]
    with pytest.raises(ModelError, match=r"blk\.1\.ffn_up\.weight"):
        convert_gguf(tiny_gguf.write(tmp_path / "m.gguf", weights), tmp_path / "m")


@pytest.mark.parametrize("keep", [0, 3, 100, 5000], ids=["empty", "magic", "header", "fields"])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    source = tiny_gguf.write(tmp_path / "m.gguf", tiny_gguf.make_weights(3, has_bias=True))
    source.write_bytes(source.read_bytes()[:keep])
    with pytest.raises(ModelError):
        convert_gguf(source, tmp_path / "m")


def test_rotary_order_undoes_the_interleaving() -> None:
    rows = np.arange(24)
    interleaved = rows.reshape(2, 2, 6).swapaxes(1, 2).reshape(-1)
    np.testing.assert_array_equal(interleaved[rotary_order(24, 2)], rows)


FIELDS = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": tiny_gguf.TOKENS,
    "tokenizer.ggml.token_type": [3 if token.startswith("<|") else 1 for token in tiny_gguf.TOKENS],
    "tokenizer.ggml.merges": tiny_gguf.MERGES,
}


@pytest.fixture(scope="module", params=["qwen2", "smollm"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return make_tokenizer({**FIELDS, "tokenizer.ggml.pre": request.param})


TOKENIZERS = {pre: make_tokenizer({**FIELDS, "tokenizer.ggml.pre": pre}) for pre in ("qwen2", "smollm")}


@pytest.mark.parametrize("pre", list(TOKENIZERS))
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_survives_tokens_and_back(pre: str, text: str) -> None:
    import unicodedata

    made = TOKENIZERS[pre]
    expected = unicodedata.normalize("NFC", text) if pre == "qwen2" else text
    assert made.decode(made.encode(text).ids, skip_special_tokens=False) == expected


def test_words_are_merged_and_control_tokens_are_whole(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("the the").tokens == ["the", "Ġthe"]
    assert tokenizer.encode("a<|im_end|>").tokens == ["a", "<|im_end|>"]


@pytest.mark.parametrize("missing", sorted(FIELDS))
def test_a_vocabulary_without_one_of_its_parts_is_refused(missing: str) -> None:
    fields = {name: value for name, value in FIELDS.items() if name != missing}
    with pytest.raises(ModelError, match=missing.replace(".", r"\.")):
        make_tokenizer({**fields, "tokenizer.ggml.pre": "qwen2"})
