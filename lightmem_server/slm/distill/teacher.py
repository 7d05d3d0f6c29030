"""The teacher's judgements of all lists: its logits, a few lists at a time, so that a run that is stopped goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightmem_server.slm.distill.lists import ReadList
from lightmem_server.slm.protocols import Selector

LISTS_PER_FILE = 500
LISTS_AT_ONCE = 50


async def score(
    lists: Sequence[ReadList], teacher: Selector, folder: Path, *, advance: Callable[[int], None]
) -> list[NDArray[np.float32]]:
    """The teacher's logits of each list's passages. What is in the folder, which exists, is read from there.

    Args:
        advance: Told how many lists more are done.
    """
    scores: list[NDArray[np.float32]] = []
    for start in range(0, len(lists), LISTS_PER_FILE):
        path = folder / f"{start:06}.npy"
        some = lists[start : start + LISTS_PER_FILE]
        if not path.exists():
            flat = np.concatenate(
                [await _judge(some[at : at + LISTS_AT_ONCE], teacher) for at in range(0, len(some), LISTS_AT_ONCE)]
            )
            _save(path, flat)
        flat = np.load(path)
        ends = np.cumsum([len(one.passages) for one in some])
        scores += np.split(flat, ends[:-1])
        advance(len(some))
    return scores


async def _judge(lists: Sequence[ReadList], teacher: Selector) -> NDArray[np.float32]:
    judged = await asyncio.gather(*(teacher.judge(one.question, one.passages) for one in lists))
    return np.array([logit for logits in judged for logit in logits], np.float32)


def _save(path: Path, scores: NDArray[np.float32]) -> None:
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.save(file, scores)
    temporary.replace(path)
