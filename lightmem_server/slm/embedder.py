"""Text to vectors with a BERT encoder on CTranslate2. Implements protocols.Embedder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from lightmem_server.errors import ModelError
from lightmem_server.slm.batcher import Batcher, BatcherLimits, Priority
from lightmem_server.slm.convert import TOKENIZER_FILE
from lightmem_server.slm.encoder import Encoder, EncoderOutput, available_threads, load_encoder
from lightmem_server.slm.manifest import ModelRole, Pooling
from lightmem_server.slm.models import InstalledModel, read_installed
from lightmem_server.slm.protocols import TokenCounter
from lightmem_server.slm.tokens import InputTokenizer, JsonTokenCounter, load_input_tokenizer, load_tokenizer

MAX_BATCH_TOKENS = 256
"""Per replica. Measured with bge-small (54-token texts): 4-8 texts a batch are the cheapest per token, 32 cost 40 % more;
and a smaller batch is sooner out of a query's way."""

FEW_TEXTS = 4
"""A call with at most so many passages goes with the queries: somebody waits for it, and it is as short. (A turn that is
written has two views.)"""


BULK_NICENESS = 10
"""How far the threads of passages in bulk stand aside for queries, short writes and the Selector: who floods the server with
turns takes what others leave. Beside such a flood p95 of another user's short write is 1.4 and 1.7 times what it is alone (two
runs of `make bench-soak`), without this 2.0 and 2.1. It needs the model a second time, 33 MB of weights."""


class BertEmbedder:
    """Embedder on loaded encoders. Texts of concurrent callers share batches, queries ahead of passages."""

    def __init__(
        self,
        installed: InstalledModel,
        encoder: Encoder,
        bulk_encoder: Encoder,
        tokenizer: InputTokenizer,
        counter: TokenCounter,
        *,
        concurrency: int,
        max_queued_texts: int,
        stands_aside: Callable[[], bool],
    ) -> None:
        """Use load_embedder."""
        self._installed = installed
        self._encoder = encoder
        self._bulk_encoder = bulk_encoder
        self._tokenizer = tokenizer
        self._counter = counter
        self._batcher: Batcher[Encoding, NDArray[np.float32]] = Batcher(
            partial(self._run, encoder),
            cost=len,
            limits=BatcherLimits(
                max_batch_cost=MAX_BATCH_TOKENS,
                max_queued_items=max_queued_texts,
                concurrency=concurrency,
                extra_for_queries=1,
            ),
            run_passages=partial(self._run, bulk_encoder),
            stands_aside=stands_aside,
        )

    @property
    def name(self) -> str:
        """See Embedder."""
        return self._installed.name

    @property
    def identity(self) -> str:
        """See Embedder."""
        return self._installed.identity

    @property
    def dim(self) -> int:
        """See Embedder."""
        return self._installed.spec.dim

    @property
    def tokens(self) -> TokenCounter:
        """See Embedder."""
        return self._counter

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        priority = Priority.QUERY if len(texts) <= FEW_TEXTS else Priority.PASSAGE
        return await self._embed(texts, self._installed.spec.passage_prefix, priority)

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        return await self._embed(texts, self._installed.spec.query_prefix, Priority.QUERY)

    async def close(self) -> None:
        """Fail what waits with UnavailableError, end what runs, free the model. May be called twice."""
        await self._batcher.close()
        await self._tokenizer.close()
        await self._encoder.close()
        await self._bulk_encoder.close()

    async def _embed(self, texts: Sequence[str], prefix: str, priority: Priority) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.dim), np.float32)
        if not texts:
            return vectors
        encodings = await self._tokenizer.encode([prefix + text for text in texts])
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index]))  # batches of like lengths
        vectors[order] = await self._batcher.submit([encodings[index] for index in order], priority)
        return vectors

    def _run(self, encoder: Encoder, batch: Sequence[Encoding]) -> asyncio.Future[list[NDArray[np.float32]]]:
        lengths = np.array([len(encoding) for encoding in batch])
        return encoder.compute(batch, lambda output: self._pool(output, lengths))

    def _pool(self, output: EncoderOutput, lengths: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        if output.hidden is None:
            raise ModelError(f"{self.name} is no embedder: it has a pooler")
        return list(pool(output.hidden, lengths, self._installed.spec.pooling or Pooling.CLS))


def pool(hidden: NDArray[np.float32], lengths: NDArray[np.int64], pooling: Pooling) -> NDArray[np.float32]:
    """One unit vector per sequence.

    Args:
        hidden: (n, longest, dim); rows beyond a sequence's length are ignored.
        lengths: (n,), each at least 1.

    Returns:
        (n, dim) float32.
    """
    if pooling is Pooling.CLS:
        vectors = hidden[:, 0]
    else:
        mask = np.arange(hidden.shape[1]) < lengths[:, None]
        vectors = np.where(mask[:, :, None], hidden, 0).sum(axis=1) / lengths[:, None].astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def load_embedder(
    directory: Path,
    name: str,
    *,
    threads: int = 0,
    max_queued_texts: int = 4096,
    compute_type: str = "int8",
    stands_aside: Callable[[], bool] = lambda: False,
) -> BertEmbedder:
    """Load an installed embedder. Blocking, 0.3 s: run it in a thread. Close it when done.

    Args:
        directory: The models' folder.
        threads: 0: the cores that this process may use.
        max_queued_texts: Waiting texts, beyond which callers get OverloadedError.
        compute_type: CTranslate2's: "int8", or "int8_float32"/"float32" to compute more exactly and slower.
        stands_aside: Whether many passages at once should leave a core to others just now.

    Raises:
        ModelNotFoundError: Not pulled.
        ModelError: Damaged, or not an embedder.
    """
    installed = read_installed(directory, name)
    if installed.spec.role is not ModelRole.EMBEDDER:
        raise ModelError(f"{name} has the role {installed.spec.role}, not embedder")
    folder, concurrency = directory / name, available_threads(threads)
    return BertEmbedder(
        installed,
        load_encoder(folder, replicas=concurrency + 1, compute_type=compute_type),
        load_encoder(folder, replicas=concurrency, niceness=BULK_NICENESS, compute_type=compute_type),
        load_input_tokenizer(folder / TOKENIZER_FILE, max_tokens=installed.spec.max_tokens),
        JsonTokenCounter(load_tokenizer(folder / TOKENIZER_FILE)),
        concurrency=concurrency,
        max_queued_texts=max_queued_texts,
        stands_aside=stands_aside,
    )
