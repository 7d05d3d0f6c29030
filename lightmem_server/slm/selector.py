"""Judges passages with a cross-encoder on CTranslate2. Implements protocols.Selector."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from lightmem_server.errors import ModelError
from lightmem_server.slm.convert import HEAD_FILE, TOKENIZER_FILE
from lightmem_server.slm.encoder import Encoder, available_threads, load_encoder
from lightmem_server.slm.judging import JudgeLimits, JudgeQueue
from lightmem_server.slm.manifest import ModelRole
from lightmem_server.slm.models import InstalledModel, read_installed
from lightmem_server.slm.npz import read_npz
from lightmem_server.slm.pace import Pace
from lightmem_server.slm.tokens import InputTokenizer, load_input_tokenizer

SUB_BATCH_PAIRS = 4
"""Pairs run together, two and more such in flight: the fastest measured on two cores."""

SUB_BATCHES_AHEAD = 1
"""Handed to the model beyond those that compute. With NICENESS: 16 callers that never pause keep 1.9 of two cores busy in the
server instead of 1.7, and 109 instead of 99 passages are judged a second (`make bench-latency ARGS="--parts clients"`)."""

NICENESS = 5
"""How far the Selector's threads stand aside for the event loop and for the embedder: what they compute takes tens of
milliseconds, what the others wait for them with takes a few. Among those 16 callers p50 of stage embed fell from 17 to 12 ms,
of fetch from 6.4 to 3.8."""

TOKENIZE_PASSAGES = 16
"""Tokenised between two looks at the deadline: 1-4 ms for turns of conversations, 40-80 ms for the longest texts."""

MOST_CHARACTERS_PER_TOKEN = 6
"""Of what people say; 4 to 5 are usual."""

WARM_UP = [("Where did she go on holiday?", "She went to the sea with her sister, and they swam every day. " * 2)]


class CrossEncoderSelector:
    """Selector on a loaded encoder with a pooler, and the classifier's weights."""

    def __init__(
        self,
        installed: InstalledModel,
        encoder: Encoder,
        tokenizer: InputTokenizer,
        head: tuple[NDArray[np.float32], NDArray[np.float32]],
        *,
        pace: Pace,
        max_queued_passages: int,
    ) -> None:
        """Use load_selector.

        Args:
            head: Weight (1, dim) and bias (1,).
        """
        self._installed = installed
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._head = head
        self._queue: JudgeQueue[Encoding] = JudgeQueue(
            self._run,
            cost=len,
            limits=JudgeLimits(
                max_queued_items=max_queued_passages,
                sub_batch_items=SUB_BATCH_PAIRS,
                concurrency=encoder.replicas,
                ahead=SUB_BATCHES_AHEAD,
            ),
            pace=pace,
        )

    @property
    def name(self) -> str:
        """See Selector."""
        return self._installed.name

    @property
    def identity(self) -> str:
        """See Selector."""
        return self._installed.identity

    async def judge(self, query: str, passages: Sequence[str], *, deadline: float | None = None) -> list[float | None]:
        """See Selector. A pair is cut to the model's longest input, the longer text of the two first."""
        if deadline is not None and passages:
            least = min(self._installed.spec.max_tokens, _least_tokens(query, passages[0]))
            if not self._queue.fits(least, deadline):
                return [None] * len(passages)
        encodings: list[Encoding] = []
        while len(encodings) < len(passages) and (deadline is None or time.monotonic() < deadline):
            some = passages[len(encodings) : len(encodings) + TOKENIZE_PASSAGES]
            encodings += await self._tokenizer.encode([(query, passage) for passage in some])
        scores = await self._queue.judge(encodings, deadline)
        return scores + [None] * (len(passages) - len(encodings))

    async def close(self) -> None:
        """Fail what waits with UnavailableError, end what runs, free the model. May be called twice."""
        await self._queue.close()
        await self._tokenizer.close()
        await self._encoder.close()

    def _run(self, batch: Sequence[Encoding]) -> asyncio.Future[list[float]]:
        return self._encoder.compute(batch, lambda output: compute_logits(output.pooled, self._head))


def _least_tokens(query: str, passage: str) -> int:
    """About the fewest tokens that a pair may have."""
    return (len(query) + len(passage)) // MOST_CHARACTERS_PER_TOKEN + 1


def compute_logits(
    pooled: NDArray[np.float32] | None, head: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> list[float]:
    """The classifier, on what CTranslate2's pooler gives: its tanh is applied already.

    Args:
        pooled: (n, dim).
        head: Weight (1, dim) and bias (1,).
    """
    if pooled is None:
        raise ModelError("the model is no cross-encoder: it has no pooler")
    weight, bias = head
    return [float(logit) for logit in (pooled @ weight.T + bias)[:, 0]]


def to_probability(logit: float) -> float:
    """A logit as 0..1, by the logistic function.

    The ms-marco cross-encoders were trained with it (binary cross-entropy over "does this passage answer this query"), so
    0.5 is the model's own border, though on conversations most good memories lie below: rank with it, don't cut at 0.5.

    >>> to_probability(0.0)
    0.5
    """
    if logit < 0:
        return math.exp(logit) / (1 + math.exp(logit))
    return 1 / (1 + math.exp(-logit))


def _read_head(path: Path, dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    arrays = read_npz(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != {"weight": (1, dim), "bias": (1,)}:
        raise ModelError(f"{path} is not the head of a cross-encoder of width {dim}: it has {shapes}")
    return arrays["weight"], arrays["bias"]


def load_selector(
    directory: Path, name: str, *, threads: int = 0, max_queued_passages: int = 4096, compute_type: str = "int8"
) -> CrossEncoderSelector:
    """Load an installed cross-encoder and time it once. Blocking, 0.3 s: run it in a thread. Close it when done.

    Args:
        directory: The models' folder.
        threads: 0: the cores that this process may use.
        max_queued_passages: Waiting passages, beyond which callers get OverloadedError.
        compute_type: CTranslate2's: "int8", or "int8_float32"/"float32" to compute more exactly and slower.

    Raises:
        ModelNotFoundError: Not pulled.
        ModelError: Damaged, or not a cross-encoder.
    """
    installed = read_installed(directory, name)
    if installed.spec.role is not ModelRole.SELECTOR:
        raise ModelError(f"{name} has the role {installed.spec.role}, not selector")
    folder = directory / name
    encoder = load_encoder(
        folder,
        replicas=available_threads(threads),
        ahead=SUB_BATCHES_AHEAD,
        niceness=NICENESS,
        compute_type=compute_type,
    )
    tokenizer = load_input_tokenizer(folder / TOKENIZER_FILE, max_tokens=installed.spec.max_tokens)
    head = _read_head(folder / HEAD_FILE, installed.spec.dim)
    warm_up = tokenizer.encode_blocking(WARM_UP * SUB_BATCH_PAIRS)
    for _ in range(2):  # the first call allocates
        began = time.perf_counter()
        encoder.forward_blocking(warm_up)
        seconds = time.perf_counter() - began
    pace = Pace(seconds / sum(len(encoding) for encoding in warm_up))
    return CrossEncoderSelector(installed, encoder, tokenizer, head, pace=pace, max_queued_passages=max_queued_passages)
