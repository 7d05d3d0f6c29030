"""The teacher's judgements, of each pair of question and passage once: its logits by the pairs' digests, in a file for every so
many lists. A run that is stopped goes on, and where data is added what was judged before stays."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightmem_server.errors import ModelError
from lightmem_server.slm.distill.lists import ReadList
from lightmem_server.slm.npz import read_npz
from lightmem_server.slm.protocols import Selector

LISTS_PER_FILE = 500
LISTS_AT_ONCE = 50
DIGEST_BYTES = 16


async def score(
    lists: Sequence[ReadList], teacher: Selector, folder: Path, *, advance: Callable[[int], None]
) -> list[NDArray[np.float32]]:
    """The teacher's logits of each list's passages. What is in the folder, which exists, is not asked again.

    Args:
        advance: Told how many lists more are done.

    Raises:
        ModelError: A file of the folder is damaged, or none of these.
    """
    known = _read(folder)
    for start in range(0, len(lists), LISTS_PER_FILE):
        some = lists[start : start + LISTS_PER_FILE]
        found: dict[bytes, float] = {}
        for at in range(0, len(some), LISTS_AT_ONCE):
            judged = await _judge(some[at : at + LISTS_AT_ONCE], teacher, known)
            known |= judged
            found |= judged
        if found:
            _save(folder, found)
        advance(len(some))
    return [np.array([known[pair] for pair in _digests(one)], np.float32) for one in lists]


async def _judge(lists: Iterable[ReadList], teacher: Selector, known: Mapping[bytes, float]) -> dict[bytes, float]:
    """Those that are not known, each once, whichever lists have it."""
    new: list[tuple[str, dict[bytes, str]]] = []
    taken: set[bytes] = set()
    for one in lists:
        pairs = zip(_digests(one), one.passages, strict=True)
        passages = {pair: passage for pair, passage in pairs if pair not in known and pair not in taken}
        taken |= passages.keys()
        new.append((one.question, passages))
    judged = await asyncio.gather(
        *(teacher.judge(question, [*passages.values()]) for question, passages in new if passages)
    )
    digests = itertools.chain.from_iterable(passages for _, passages in new)
    return dict(zip(digests, itertools.chain.from_iterable(judged), strict=True))  # type: ignore[arg-type]  # no deadline


def _digests(one: ReadList) -> list[bytes]:
    return [
        hashlib.blake2b(f"{one.question}\0{passage}".encode(), digest_size=DIGEST_BYTES).digest()
        for passage in one.passages
    ]


def _read(folder: Path) -> dict[bytes, float]:
    known: dict[bytes, float] = {}
    for path in sorted(folder.glob("*.npz")):
        arrays = read_npz(path)
        if arrays.keys() != {"digests", "logits"} or len(arrays["digests"]) != len(arrays["logits"]):
            raise ModelError(f"{path} holds no judgements of the teacher")
        known |= zip((row.tobytes() for row in arrays["digests"]), arrays["logits"].tolist(), strict=True)
    return known


def _save(folder: Path, judged: Mapping[bytes, float]) -> None:
    path = folder / f"{sum(1 for _ in folder.glob('*.npz')):06}.npz"
    digests = np.frombuffer(b"".join(judged), np.uint8).reshape(-1, DIGEST_BYTES)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.savez(file, digests=digests, logits=np.array([*judged.values()], np.float32))
    temporary.replace(path)
