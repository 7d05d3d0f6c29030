"""Hard negatives: what the coarse stage finds for a question, and isn't its answer. The server's own core finds them, with
the server's embedder, over what the questions of one corpus are asked of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lightmem_server.core import ALWAYS, NEVER, Engine, Rows, SearchPlan
from lightmem_server.slm.distill.sets import Asked
from lightmem_server.slm.protocols import Embedder

BATCH = 512
PARTITION = "corpus"


async def find_hard(questions: Sequence[Asked], embedder: Embedder, depth: int) -> list[list[str]]:
    """The best `depth` passages of each question's corpus, best first, its answers left out."""
    by_corpus: dict[str, list[int]] = defaultdict(list)
    for index, asked in enumerate(questions):
        by_corpus[asked.corpus].append(index)
    found: list[list[str]] = [[] for _ in questions]
    for indices in by_corpus.values():
        of_corpus = [questions[index] for index in indices]
        passages = list(dict.fromkeys(passage for asked in of_corpus for passage in asked.passages))
        engine = _load(passages, await _embed(embedder.embed_passages, passages))
        vectors = await _embed(embedder.embed_queries, [asked.question for asked in of_corpus])
        for index, asked, vector in zip(indices, of_corpus, vectors, strict=True):
            answers = {asked.passages[position] for position in asked.positives}
            best = _search(engine, asked.question, vector, depth + len(answers))
            found[index] = [passages[row] for row in best if passages[row] not in answers][:depth]
    return found


async def _embed(
    embed: Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]], texts: Sequence[str]
) -> NDArray[np.float32]:
    parts = [await embed(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    return np.concatenate(parts)


def _load(passages: Sequence[str], vectors: NDArray[np.float32]) -> Engine:
    count, dim = vectors.shape
    engine = Engine(dim=dim, budget_bytes=1 << 32, stm_turns=1, stm_tokens=1, view_names=("passage",))
    numbers = np.arange(count, dtype=">u4").view(np.uint8).reshape(count, 4)
    rows = Rows(
        ids=np.concatenate([np.zeros((count, 12), np.uint8), numbers], axis=1),
        vectors=vectors[:, None, :],
        texts=[[passage] for passage in passages],
        tiers=np.full(count, 2, np.uint8),
        kinds=np.ones(count, np.uint8),
        sessions=[""] * count,
        agents=[""] * count,
        occurred_at=np.zeros(count, np.int64),
        token_counts=np.ones(count, np.uint32),
        is_archived=np.zeros(count, np.bool_),
        is_pinned=np.zeros(count, np.bool_),
        in_ring=np.zeros(count, np.bool_),
        metadata=[{}] * count,
        orders=np.arange(count, dtype=np.uint64),
        valid_from=np.full(count, ALWAYS),
        valid_to=np.full(count, NEVER),
        expires_at=np.full(count, NEVER),
    )
    engine.load(PARTITION, 1, rows)
    return engine


def _search(engine: Engine, question: str, vector: NDArray[np.float32], count: int) -> list[int]:
    plan = SearchPlan(
        vectors=vector[None, :],
        texts=[question],
        vector_weights=[1.0],
        text_weights=[1.0],
        dense_weights=[1.0],
        lexical_weights=[1.0],
        list_depth=100,
        max_candidates=count,
        now=0,
        fusion="score",
    )
    result = engine.search(PARTITION, plan)
    assert result is not None, "the partition was loaded just now"
    return [int.from_bytes(row.tobytes()[12:], "big") for row in result.ids]
