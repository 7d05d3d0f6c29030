"""Real models that remember: what they made of a text before is read from a file, so that trying another weight or
another rule over a whole data set takes seconds instead of minutes.

Implements slm.protocols.Embedder, Selector and Writer around the real ones. Never for timings: nothing here takes time.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightmem_server.slm.protocols import Embedder, Ending, Message, Selector, TokenCounter, Writer, Written


class Memory:
    """Bytes by key, in one SQLite file and in RAM."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path)
        self._connection.execute("CREATE TABLE IF NOT EXISTS made (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        self._made: dict[bytes, bytes] = dict(self._connection.execute("SELECT key, value FROM made"))

    def get(self, key: bytes) -> bytes | None:
        """What was put under a key."""
        return self._made.get(key)

    def put(self, made: dict[bytes, bytes]) -> None:
        """Remember, on disk too."""
        self._made |= made
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO made VALUES (?, ?)", made.items())

    def close(self) -> None:
        """Release the file."""
        self._connection.close()


def _key(identity: str, *parts: str) -> bytes:
    return hashlib.blake2b("\0".join((identity, *parts)).encode(), digest_size=16).digest()


class RememberingEmbedder:
    """An Embedder that asks the real one only for new texts."""

    def __init__(self, embedder: Embedder, memory: Memory) -> None:
        self._embedder = embedder
        self._memory = memory

    @property
    def name(self) -> str:
        """See Embedder."""
        return self._embedder.name

    @property
    def identity(self) -> str:
        """See Embedder."""
        return self._embedder.identity

    @property
    def dim(self) -> int:
        """See Embedder."""
        return self._embedder.dim

    @property
    def tokens(self) -> TokenCounter:
        """See Embedder."""
        return self._embedder.tokens

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        return await self._embed("passage", texts)

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        return await self._embed("query", texts)

    async def _embed(self, role: str, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = [_key(self.identity, role, text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if self._memory.get(key) is None}
        if new:
            embed = self._embedder.embed_passages if role == "passage" else self._embedder.embed_queries
            vectors = await embed(list(new.values()))
            self._memory.put({key: vector.tobytes() for key, vector in zip(new, vectors, strict=True)})
        made = b"".join(self._memory.get(key) or b"" for key in keys)
        return np.frombuffer(made, np.float32).reshape(len(texts), self.dim)


class RememberingSelector:
    """A Selector that asks the real one only about new pairs, without a deadline."""

    def __init__(self, selector: Selector, memory: Memory) -> None:
        self._selector = selector
        self._memory = memory

    @property
    def name(self) -> str:
        """See Selector."""
        return self._selector.name

    @property
    def identity(self) -> str:
        """See Selector."""
        return self._selector.identity

    async def judge(self, query: str, passages: Sequence[str], *, deadline: float | None = None) -> list[float | None]:
        """See Selector; the deadline is ignored."""
        keys = [_key(self.identity, query, passage) for passage in passages]
        new = {key: passage for key, passage in zip(keys, passages, strict=True) if self._memory.get(key) is None}
        if new:
            logits = await self._selector.judge(query, list(new.values()))
            self._memory.put({key: np.float64(logit).tobytes() for key, logit in zip(new, logits, strict=True)})
        return [float(np.frombuffer(self._memory.get(key) or b"", np.float64)[0]) for key in keys]


class RememberingWriter:
    """A Writer that asks the real one only for new prompts."""

    def __init__(self, writer: Writer, memory: Memory) -> None:
        self._writer = writer
        self._memory = memory

    @property
    def name(self) -> str:
        """See Writer."""
        return self._writer.name

    @property
    def identity(self) -> str:
        """See Writer."""
        return self._writer.identity

    @property
    def tokens(self) -> TokenCounter:
        """See Writer."""
        return self._writer.tokens

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
        """See Writer. What a deadline cut is not remembered; `until` is taken for the same from call to call."""
        prompt = json.dumps([asdict(message) for message in (*static, *messages)])
        key = _key(self.identity, prompt, str(max_tokens), *stops, str(until is not None))
        if (made := self._memory.get(key)) is not None:
            fields = json.loads(made)
            return Written(**fields | {"ending": Ending(fields["ending"])})
        written = await self._writer.generate(
            static, messages, max_tokens=max_tokens, stops=stops, until=until, deadline=deadline, is_online=is_online
        )
        if written.ending is not Ending.DEADLINE:
            self._memory.put({key: json.dumps(asdict(written)).encode()})
        return written
