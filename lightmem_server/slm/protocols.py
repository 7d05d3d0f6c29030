"""What the pipeline needs of small language models, whatever runs them.

Implementations: slm/embedder.py, slm/selector.py, slm/writer.py on CTranslate2; slm/fakes.py, deterministic and without
weights. One contract suite (tests/contract/test_slm.py, test_writer.py) holds all of them to these words.

Every method is a coroutine that never blocks the event loop, and may be cancelled: work of callers who left is
dropped before it starts. A full queue raises OverloadedError at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


class TokenCounter(Protocol):
    """Counts tokens as some model does. Pure and quick; may be called on the event loop."""

    def count(self, text: str) -> int:
        """Tokens of `text`, special tokens not included. At least 0; "" has 0."""


class Embedder(Protocol):
    """Turns texts into vectors whose dot product says how near they are in meaning."""

    @property
    def name(self) -> str:
        """Its name in the manifest."""

    @property
    def identity(self) -> str:
        """Names the weights, the pooling and the prefixes: vectors with different identities don't compare."""

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""

    @property
    def tokens(self) -> TokenCounter:
        """The embedder's own tokenizer."""

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed what is stored.

        Returns:
            (n, dim) float32, each of unit length, in the order of `texts`, (0, dim) for none; texts beyond the model's
            length are cut at their end.

        Raises:
            OverloadedError: The queue is full; nothing was done.
        """

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed what is asked; as embed_passages, with the model's query prefix, and ahead of waiting passages."""


class Selector(Protocol):
    """Judges whether a passage is about a need, reading both together."""

    @property
    def name(self) -> str:
        """Its name in the manifest."""

    @property
    def identity(self) -> str:
        """Names the weights: logits of different identities don't compare."""

    async def judge(self, query: str, passages: Sequence[str], *, deadline: float | None = None) -> list[float | None]:
        """Score passages against a query.

        Passages are taken best first: when the deadline comes, those at the front have been judged, to within the few
        that are at work together.

        Args:
            query: The need, in words.
            passages: Candidates, the most promising first.
            deadline: time.monotonic() seconds; None: no limit. A sub-batch that isn't expected to end by then is not
                begun.

        Returns:
            One logit per passage, higher is better; None where it was not judged.

        Raises:
            OverloadedError: The queue is full; nothing was done.
        """


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of the conversation that a Writer is asked to go on with."""

    role: Literal["system", "user", "assistant"]
    text: str


class Ending(StrEnum):
    """Why a Writer wrote no more."""

    DONE = "done"
    """It had nothing more to say."""
    STOP = "stop"
    """It came to one of the stops."""
    MAX_TOKENS = "max_tokens"
    DEADLINE = "deadline"
    REPETITION = "repetition"
    """It turned in circles; the copies are cut off."""
    ENOUGH = "enough"
    """The caller wanted no more."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a Writer wrote. A proposal: what it says has to be checked before it is kept."""

    text: str
    """Without the stop, and without blanks around it."""
    ending: Ending
    prompt_tokens: int
    tokens: int
    """Written, without the end of the turn."""


class Writer(Protocol):
    """Writes short texts, always the most likely token: the same prompt, divided the same way and asked for online or not,
    gives the same text. Divided otherwise, or beside others, it may differ by what 8-bit arithmetic rounds; in float32 it
    doesn't. In the background blank lines may stand in front of a prompt, so that several texts are written at once."""

    @property
    def name(self) -> str:
        """Its name in the manifest."""

    @property
    def identity(self) -> str:
        """Names the weights: other identities write other texts."""

    @property
    def tokens(self) -> TokenCounter:
        """The Writer's own tokenizer."""

    async def generate(
        self,
        static: Sequence[Message],
        messages: Sequence[Message],
        *,
        max_tokens: int,
        stops: Sequence[str] = (),
        until: Callable[[str], bool] | None = None,
        deadline: float | None = None,
        is_online: bool = False,
    ) -> Written:
        """Write the assistant's turn that follows `static` and `messages`.

        Args:
            static: The front of the prompt that many calls share, such as instructions and examples: computed once and
                kept.
            messages: The rest, this call's own; the last is the user's. Text is text: a control token spelled out in
                it is none.
            max_tokens: Most tokens to write, at least 1.
            stops: Texts that end the writing.
            until: Gets the text after each line; True to end the writing. Called in the model's thread, which waits for it:
                a few milliseconds at most, and nothing shared that isn't safe to share. It raises nothing.
            deadline: time.monotonic() seconds; None: no limit. What was written by then is returned then.
            is_online: A request waits for it: it goes ahead of background work, which in turn stands aside between two
                tokens while online requests are at work.

        Raises:
            InvalidInputError: The prompt and `max_tokens` are longer than the model's longest input.
            OverloadedError: The queue is full; nothing was done.
        """
