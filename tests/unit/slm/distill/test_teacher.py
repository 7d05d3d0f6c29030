"""The teacher's judgements: kept, and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lightmem_server.slm.distill import teacher
from lightmem_server.slm.distill.lists import ReadList
from lightmem_server.slm.distill.sets import Part

LISTS = [
    ReadList("s", Part.TRAIN, f"q{n}", tuple(f"p{n}.{i}" for i in range(1 + n % 3)), (0.0,) * (1 + n % 3))
    for n in range(7)
]


class StoppedError(Exception):
    pass


class Counting:
    """A Selector whose logit is the number in a passage, and which counts what it read."""

    name = identity = "counting"

    def __init__(self, stop_after: int = 1000) -> None:
        self.read: list[str] = []
        self._stop_after = stop_after

    async def judge(self, query: str, passages: Sequence[str], *, deadline: float | None = None) -> list[float | None]:
        if len(self.read) >= self._stop_after:
            raise StoppedError
        self.read += passages
        return [float(passage[1:]) for passage in passages]


async def test_a_stopped_run_asks_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "LISTS_PER_FILE", 3)
    monkeypatch.setattr(teacher, "LISTS_AT_ONCE", 2)
    with pytest.raises(StoppedError):
        await teacher.score(LISTS, Counting(stop_after=8), tmp_path, advance=lambda _: None)
    done: list[int] = []
    again = Counting()
    scores = await teacher.score(LISTS, again, tmp_path, advance=done.append)
    assert done == [3, 3, 1]
    assert "p0.0" not in again.read
    assert "p6.0" in again.read
    for one, judged in zip(LISTS, scores, strict=True):
        np.testing.assert_allclose(judged, [float(passage[1:]) for passage in one.passages])
