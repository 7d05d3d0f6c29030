"""What protocols.py promises, held by every implementation: the fakes, the real code on a tiny random model (both always),
and the real models where they have been pulled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from lightmem_server.config import Settings
from lightmem_server.pipeline.tuning import REFERENCE_SELECTOR
from lightmem_server.slm import protocols
from lightmem_server.slm.embedder import load_embedder
from lightmem_server.slm.fakes import HashEmbedder, OverlapSelector
from lightmem_server.slm.manifest import ModelRole
from lightmem_server.slm.models import ModelState, default_models_dir, verify
from lightmem_server.slm.selector import load_selector
from tests.unit.slm import tiny_bert

BACKENDS = ["fake", "tiny", pytest.param("real", marks=pytest.mark.models)]


class Embedder(protocols.Embedder, Protocol):
    async def close(self) -> None: ...


class Selector(protocols.Selector, Protocol):
    async def close(self) -> None: ...


def pulled(name: str) -> Path:
    """The models' folder, or a skip that says why."""
    directory = default_models_dir()
    (status,) = verify([name], directory)
    if status.state is not ModelState.INSTALLED:
        pytest.skip(f"{name} is {status.state} in {directory}: run `lightmem models pull`")
    return directory


@pytest.fixture(params=BACKENDS)
async def embedder(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Embedder]:
    backend: Embedder
    if request.param == "fake":
        backend = HashEmbedder()
    elif request.param == "tiny":
        tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER)
        backend = load_embedder(tmp_path, "tiny")
    else:
        name = Settings().embedder
        backend = load_embedder(pulled(name), name)
    yield backend
    await backend.close()


@pytest.fixture(params=BACKENDS)
async def selector(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Selector]:
    backend: Selector
    if request.param == "fake":
        backend = OverlapSelector()
    elif request.param == "tiny":
        tiny_bert.install(tmp_path, "tiny", ModelRole.SELECTOR)
        backend = load_selector(tmp_path, "tiny")
    else:
        name = Settings().selector
        backend = load_selector(pulled(name), name)
    yield backend
    await backend.close()


TEXTS = [
    "Anna likes tea.",
    "",
    "The cat sat on the mat. " * 300,
    "naïve café 🐈 \x00 \u202e",
    "x" * 10_000,
    "Anna likes tea.",
]


async def test_vectors_have_shape_dtype_and_unit_length(embedder: Embedder) -> None:
    for embed in (embedder.embed_passages, embedder.embed_queries):
        vectors = await embed(TEXTS)
        assert (vectors.shape, vectors.dtype) == ((len(TEXTS), embedder.dim), np.float32)
        assert vectors.flags.c_contiguous
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert (await embedder.embed_passages([])).shape == (0, embedder.dim)
    assert (await embedder.embed_queries([])).shape == (0, embedder.dim)


async def test_a_text_has_the_same_vector_whoever_is_beside_it(embedder: Embedder) -> None:
    texts = [f"anna likes {word}" for word in ("tea", "the cat", "the red mat on the moon", "paris") * 8]
    together = await embedder.embed_passages(texts)
    parts = await asyncio.gather(*(embedder.embed_passages([text]) for text in texts))
    alone = np.concatenate(parts)
    assert (together * alone).sum(axis=1).min() > 0.999


async def test_vectors_come_in_the_order_of_the_texts(embedder: Embedder) -> None:
    texts = ["the cat sat on the mat", "anna", "ben lives in paris", "tea"]
    vectors = await embedder.embed_passages(texts)
    reverse = await embedder.embed_passages(texts[::-1])
    assert (vectors * reverse[::-1]).sum(axis=1).min() > 0.999


async def test_the_embedder_says_who_it_is(embedder: Embedder) -> None:
    assert embedder.name
    assert embedder.identity.startswith(embedder.name)
    assert embedder.tokens.count("") == 0
    assert embedder.tokens.count("anna likes tea") == 3


async def test_a_cancelled_caller_leaves_the_embedder_working(embedder: Embedder) -> None:
    task = asyncio.create_task(embedder.embed_passages(["the cat sat on the mat"] * 50))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await embedder.embed_queries(["anna"])).shape == (1, embedder.dim)


async def test_every_passage_has_a_score_without_a_deadline(selector: Selector) -> None:
    scores = await selector.judge("who likes tea", TEXTS)
    assert all(isinstance(score, float) and np.isfinite(score) for score in scores)
    assert len(scores) == len(TEXTS)
    assert scores[0] == pytest.approx(scores[-1], abs=0.05), "the same passage twice"


async def test_the_selector_says_who_it_is(selector: Selector) -> None:
    assert selector.name
    assert selector.identity.startswith(selector.name)


async def test_no_passages_give_no_scores(selector: Selector) -> None:
    assert await selector.judge("who likes tea", []) == []
    assert await selector.judge("", [""]) != []


async def test_a_past_deadline_judges_nothing_and_returns_at_once(selector: Selector) -> None:
    assert await selector.judge("tea", ["tea"] * 500, deadline=time.monotonic() - 1) == [None] * 500


UNFINISHED = 8
"""A deadline may cut sub-batches in flight, whichever of them is done."""


async def test_a_short_deadline_judges_the_front_and_is_kept(selector: Selector) -> None:
    passages = ["Anna went to the sea with her sister and they swam every day until it rained. " * 4] * 400
    deadline = time.monotonic() + 0.25
    scores = await selector.judge("where did anna go", passages, deadline=deadline)
    judged = [score is not None for score in scores]
    front = max(0, sum(judged) - UNFINISHED)
    assert all(judged[:front]), "the judged ones are those at the front"
    assert not any(judged[sum(judged) + UNFINISHED :])


async def test_a_cancelled_caller_leaves_the_selector_working(selector: Selector) -> None:
    task = asyncio.create_task(selector.judge("who", ["the cat sat on the mat"] * 50))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(await selector.judge("who", ["anna"])) == 1


MEMORIES = [
    "Caroline: I adopted a puppy last weekend, his name is Biscuit.",
    "Melanie: The weather has been awful, it rained all week.",
    "Caroline: My brother is moving to Lisbon in June to study architecture.",
    "Melanie: I finally finished painting the kitchen, it is bright yellow now.",
    "Caroline: We had pizza for dinner again.",
]
QUESTIONS = [
    ("What is the name of Caroline's dog?", 0),
    ("Which city will her brother live in?", 2),
    ("What colour are the kitchen walls?", 3),
]


@pytest.mark.models
@pytest.mark.parametrize(("question", "answer"), QUESTIONS, ids=["dog", "city", "colour"])
async def test_real_models_put_the_answer_first(question: str, answer: int) -> None:
    settings = Settings()
    embedder = load_embedder(pulled(settings.embedder), settings.embedder)
    selector = load_selector(pulled(settings.selector), settings.selector)
    similarities = (await embedder.embed_queries([question]) @ (await embedder.embed_passages(MEMORIES)).T)[0]
    scores = [score or 0.0 for score in await selector.judge(question, MEMORIES)]
    await embedder.close()
    await selector.close()
    assert int(np.argmax(similarities)) == answer
    assert int(np.argmax(scores)) == answer
    assert scores[answer] > sorted(scores)[-2] + 1, "by a clear margin"


@pytest.mark.models
async def test_the_published_selector_gives_the_logits_known_of_it() -> None:
    """Of the model card's example; float32 upstream, so within what int8 loses."""
    name = REFERENCE_SELECTOR
    selector = load_selector(pulled(name), name)
    good, bad = await selector.judge(
        "How many people live in Berlin?",
        [
            "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
            "Berlin is well known for its museums.",
        ],
    )
    await selector.close()
    assert good == pytest.approx(9.22, abs=0.5)
    assert bad == pytest.approx(-4.08, abs=0.5)
