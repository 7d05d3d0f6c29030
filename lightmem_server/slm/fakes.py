"""Models without weights, for tests and demos: deterministic, quick, and true to the protocols."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lightmem_server.slm.protocols import Ending, Message, Written

_WORD = re.compile(r"\w+")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


class WordCounter:
    """A TokenCounter whose tokens are words."""

    def count(self, text: str) -> int:
        """See TokenCounter."""
        return len(_words(text))


class HashEmbedder:
    """An Embedder whose vectors say which words a text has: texts that share words are near.

    Each word stands for a random direction made from its hash; a text is the sum of its words', of unit length.
    """

    name = "hash-embedder"

    def __init__(self, dim: int = 384) -> None:
        self._dim = dim

    @property
    def identity(self) -> str:
        """See Embedder."""
        return f"{self.name}/{self._dim}"

    @property
    def dim(self) -> int:
        """See Embedder."""
        return self._dim

    @property
    def tokens(self) -> WordCounter:
        """See Embedder."""
        return WordCounter()

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        vectors = np.empty((len(texts), self._dim), np.float32)
        for row, text in enumerate(texts):
            total = np.sum([self._direction(word) for word in _words(text) or [""]], axis=0)
            vectors[row] = total / np.linalg.norm(total)
        return vectors

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder; queries have no prefix here."""
        return await self.embed_passages(texts)

    async def close(self) -> None:
        """Nothing to release."""

    def _direction(self, word: str) -> NDArray[np.float64]:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(self._dim)


class OverlapSelector:
    """A Selector whose logit says which share of the query's words the passage has.

    It spends `seconds_per_passage` of its clock on each passage, and keeps the deadline as the real one does; with a clock
    that stands still and 0 seconds it judges everything.
    """

    name = "overlap-selector"
    identity = "overlap-selector"

    def __init__(self, *, seconds_per_passage: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds_per_passage = seconds_per_passage
        self._clock = clock

    async def judge(self, query: str, passages: Sequence[str], *, deadline: float | None = None) -> list[float | None]:
        """See Selector."""
        now = self._clock()
        scores: list[float | None] = []
        for passage in passages:
            now += self._seconds_per_passage
            scores.append(None if deadline is not None and now > deadline else _overlap_logit(query, passage))
        return scores

    async def close(self) -> None:
        """Nothing to release."""


def _overlap_logit(query: str, passage: str) -> float:
    """log-odds of the share of the query's words that the passage has, smoothed: from -2.4 up to 2.4 for ten words."""
    wanted, found = Counter(_words(query)), Counter(_words(passage))
    common = (wanted & found).total()
    return math.log((common + 1) / (wanted.total() - common + 1))


class ScriptedWriter:
    """A Writer that says what it is told to: `answer` gets the whole conversation and gives the text.

    Its tokens are words. It spends `seconds_per_token` of its clock on each, and keeps the deadline as the real one does.
    """

    name = "scripted-writer"
    identity = "scripted-writer"

    def __init__(
        self,
        answer: Callable[[Sequence[Message]], str],
        *,
        seconds_per_token: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answer = answer
        self._seconds_per_token = seconds_per_token
        self._clock = clock
        self.prompts: list[Sequence[Message]] = []
        """The conversations so far."""

    @property
    def tokens(self) -> WordCounter:
        """See Writer."""
        return WordCounter()

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
        """See Writer."""
        prompt = (*static, *messages)
        self.prompts.append(prompt)
        words = re.findall(r"\s*\S+", self._answer(prompt))
        now, text, count, ending = self._clock(), "", 0, Ending.DONE
        for word in words:
            now += self._seconds_per_token
            if count == max_tokens:
                ending = Ending.MAX_TOKENS
                break
            if deadline is not None and now > deadline:
                ending = Ending.DEADLINE
                break
            text, count = text + word, count + 1
            if any(stop in text for stop in stops):
                text, ending = text[: min(text.index(stop) for stop in stops if stop in text)], Ending.STOP
                break
            following = words[count] if count < len(words) else ""
            if until is not None and following.startswith("\n") and until(f"{text}\n"):
                ending = Ending.ENOUGH
                break
        prompt_tokens = sum(self.tokens.count(message.text) for message in prompt)
        return Written(text.strip(), ending, prompt_tokens, count)

    async def close(self) -> None:
        """Nothing to release."""
