"""What one writes in an afternoon: SQLite FTS5, sqlite-vec and reciprocal rank fusion in one Python process.

The measure of what a server with `selector=OFF` may cost: the same turns, the same embedder, no network, no durability, a
database in memory, one passage view. The embedder is CTranslate2 called directly, with the threads that are fastest for one
short query. Users share the tables, as a server's do, and no answer holds another's turns: vectors are parted by a key, which
costs nothing; FTS5 can't be parted, and ranks the words of all users before it leaves out the others'. With one user it is the
fastest line of this kind.

sqlite-vec is for this bench alone and not among the dependencies: `make bench-latency` installs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import apsw
import numpy as np
from numpy.typing import NDArray

from lightmem_server.slm.convert import TOKENIZER_FILE
from lightmem_server.slm.embedder import pool
from lightmem_server.slm.encoder import load_encoder
from lightmem_server.slm.manifest import Pooling
from lightmem_server.slm.models import read_installed
from lightmem_server.slm.tokens import load_input_tokenizer

DEPTH = 50
"""Entries of each of the two lists."""

RRF_K = 60
WORD = re.compile(r"\w+")


def fuse(rankings: Sequence[Sequence[int]], count: int) -> list[int]:
    """The best of several best-first lists by reciprocal ranks; Cormack, Clarke, Buettcher, SIGIR 2009.

    >>> fuse([[1, 2], [2, 3]], 2)
    [2, 1]
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, start=1):
            scores[row] = scores.get(row, 0.0) + 1 / (RRF_K + rank)
    return sorted(scores, key=lambda row: (-scores[row], row))[:count]


def to_match(query: str) -> str:
    """FTS5's syntax for "any of these words".

    >>> to_match('What\\'s "new"?')
    '"What" OR "s" OR "new"'
    """
    return " OR ".join(f'"{word}"' for word in WORD.findall(query))


class PlainLine:
    """Turns of some users in memory, and a search over those of one. Needs the module sqlite_vec."""

    def __init__(self, models_dir: Path, embedder: str, texts_of: Mapping[str, Sequence[str]]) -> None:
        """Embeds and indexes each user's texts, one after the other: seconds for a thousand."""
        import sqlite_vec

        installed = read_installed(models_dir, embedder)
        self._prefixes = (installed.spec.query_prefix, installed.spec.passage_prefix)
        self._pooling = installed.spec.pooling or Pooling.CLS
        self._encoder = load_encoder(models_dir / embedder, replicas=1)
        self._tokenizer = load_input_tokenizer(
            models_dir / embedder / TOKENIZER_FILE, max_tokens=installed.spec.max_tokens
        )
        self._connection = apsw.Connection(":memory:")
        self._connection.enable_load_extension(True)
        self._connection.load_extension(sqlite_vec.loadable_path())
        self._connection.execute(
            "CREATE VIRTUAL TABLE words USING fts5(text, user UNINDEXED, tokenize='porter unicode61')"
        )
        self._connection.execute(
            "CREATE VIRTUAL TABLE vectors USING "
            f"vec0(user text partition key, vector float[{installed.spec.dim}] distance_metric=cosine)"
        )
        said = [(user, text) for user, texts in texts_of.items() for text in texts]
        with self._connection:
            for row, (user, text) in enumerate(said, start=1):
                self._connection.execute("INSERT INTO words(rowid, text, user) VALUES (?, ?, ?)", (row, text, user))
                self._connection.execute(
                    "INSERT INTO vectors(rowid, user, vector) VALUES (?, ?, ?)",
                    (row, user, self._embed(self._prefixes[1] + text).tobytes()),
                )

    def search(self, user: str, query: str, count: int = 10) -> list[str]:
        """A user's best texts, best first."""
        vector = self.embed(query).tobytes()
        dense = [
            row
            for (row,) in self._connection.execute(
                "SELECT rowid FROM vectors WHERE vector MATCH ? AND k = ? AND user = ? ORDER BY distance",
                (vector, DEPTH, user),
            )
        ]
        lexical = [
            row
            for (row,) in self._connection.execute(
                "SELECT rowid FROM words WHERE words MATCH ? AND user = ? ORDER BY rank LIMIT ?",
                (to_match(query), user, DEPTH),
            )
        ]
        best = fuse([dense, lexical], count)
        marks = ", ".join("?" * len(best))
        found = dict(self._connection.execute(f"SELECT rowid, text FROM words WHERE rowid IN ({marks})", best))
        return [found[row] for row in best]

    def embed(self, query: str) -> NDArray[np.float32]:
        """What a search begins with: the query's vector."""
        return self._embed(self._prefixes[0] + query)

    def _embed(self, text: str) -> NDArray[np.float32]:
        encodings = self._tokenizer.encode_blocking([text])
        output = self._encoder.forward_blocking(encodings)
        assert output.hidden is not None, "an embedder has no pooler"
        vector: NDArray[np.float32] = pool(output.hidden, np.array([len(encodings[0])]), self._pooling)[0]
        return vector
