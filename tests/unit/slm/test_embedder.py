"""The embedder, on a tiny BERT whose vectors are known."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from lightmem_server.errors import ModelError, ModelNotFoundError, UnavailableError
from lightmem_server.slm.embedder import load_embedder, pool
from lightmem_server.slm.manifest import ModelRole, Pooling
from lightmem_server.slm.models import DESCRIPTION_FILE
from lightmem_server.slm.tokens import load_input_tokenizer
from tests.unit.slm import tiny_bert

TEXTS = ["anna likes tea", "the cat sat on the red mat", "", "ben lives in paris and drinks blue tea on the moon"]


@pytest.mark.parametrize("pooling", list(Pooling))
async def test_vectors_are_those_of_the_reference(tmp_path: Path, pooling: Pooling) -> None:
    weights = tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER, pooling=pooling, quantization="float32")
    embedder = load_embedder(tmp_path, "tiny", threads=1, compute_type="float32")
    inputs = load_input_tokenizer(tmp_path / "tiny" / "tokenizer.json", max_tokens=tiny_bert.MAX_TOKENS)
    vectors = await embedder.embed_passages(TEXTS)
    for vector, encoding in zip(vectors, inputs.encode_blocking(TEXTS), strict=True):
        hidden = tiny_bert.forward(weights, encoding.ids, encoding.type_ids)
        want = hidden[0] if pooling is Pooling.CLS else hidden.mean(axis=0)
        np.testing.assert_allclose(vector, want / np.linalg.norm(want), atol=2e-4)
    await embedder.close()


async def test_queries_take_the_prefix(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER, quantization="float32")
    embedder = load_embedder(tmp_path, "tiny", threads=1, compute_type="float32")
    query = await embedder.embed_queries(["anna"])
    np.testing.assert_allclose(query, await embedder.embed_passages(["what is anna"]), atol=1e-5)
    assert not np.allclose(query, await embedder.embed_passages(["anna"]), atol=1e-2)
    await embedder.close()


async def test_what_is_beyond_the_longest_input_does_not_matter(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER)
    embedder = load_embedder(tmp_path, "tiny", threads=1)
    front = "the cat " * 11
    vectors = await embedder.embed_passages([front + tail for tail in ("moon", "tea " * 100)])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    await embedder.close()


async def test_identity_says_whether_vectors_compare(tmp_path: Path) -> None:
    for folder, pooling, seed in (
        ("a", Pooling.CLS, 1),
        ("same", Pooling.CLS, 1),
        ("pooling", Pooling.MEAN, 1),
        ("weights", Pooling.CLS, 2),
    ):
        tiny_bert.install(tmp_path / folder, "tiny", ModelRole.EMBEDDER, pooling=pooling, seed=seed)
    tiny_bert.install(tmp_path / "prefix", "tiny", ModelRole.EMBEDDER)
    description = tmp_path / "prefix" / "tiny" / DESCRIPTION_FILE
    description.write_text(description.read_text().replace("what is ", "where is "))
    identities = {}
    for folder in ("a", "same", "pooling", "weights", "prefix"):
        embedder = load_embedder(tmp_path / folder, "tiny", threads=1)
        identities[folder] = embedder.identity
        await embedder.close()
    assert identities["a"] == identities["same"]
    assert identities["a"].startswith("tiny/int8/")
    assert len(set(identities.values())) == 4


async def test_closing_twice_is_fine_and_later_calls_are_refused(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER)
    embedder = load_embedder(tmp_path, "tiny", threads=1)
    await embedder.embed_passages(["anna"])
    await asyncio.gather(embedder.close(), embedder.close())
    with pytest.raises(UnavailableError):
        await embedder.embed_passages(["anna"])


def test_loading_what_is_not_there_or_something_else_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        load_embedder(tmp_path, "tiny")
    tiny_bert.install(tmp_path, "tiny", ModelRole.SELECTOR)
    with pytest.raises(ModelError, match="tiny has the role selector, not embedder"):
        load_embedder(tmp_path, "tiny")


def test_loading_unusable_weights_is_a_model_error(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER)
    path = tmp_path / "tiny" / "model.bin"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_embedder(tmp_path, "tiny")


@pytest.mark.parametrize("pooling", list(Pooling))
def test_pooling_ignores_rows_beyond_a_sequence(pooling: Pooling) -> None:
    random = np.random.default_rng(5)
    hidden = random.standard_normal((3, 7, 8)).astype(np.float32)
    lengths = np.array([7, 1, 4])
    before = pool(hidden, lengths, pooling)
    for row, length in enumerate(lengths):
        hidden[row, length:] = np.nan
    np.testing.assert_array_equal(pool(hidden, lengths, pooling), before)
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, rtol=1e-6)
