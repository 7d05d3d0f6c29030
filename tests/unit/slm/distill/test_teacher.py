"""The teacher's judgements: kept, and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lightmem_server.errors import ModelError
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
    _check(LISTS, scores)


async def test_a_pair_is_asked_once_whatever_is_added_and_in_whichever_lists_it_is(tmp_path: Path) -> None:
    await teacher.score(LISTS, Counting(), tmp_path, advance=lambda _: None)
    added = ReadList("t", Part.TRAIN, "q1", ("p1.1", "p9.0", "p1.0", "p9.1"), (0.0,) * 4)
    other = ReadList("t", Part.TRAIN, "another question", ("p1.1",), (1.0,))
    more, again = [added, *reversed(LISTS), added, other], Counting()
    scores = await teacher.score(more, again, tmp_path, advance=lambda _: None)
    assert again.read == ["p9.0", "p9.1", "p1.1"]
    _check(more, scores)


async def test_question_and_passage_are_parted(tmp_path: Path) -> None:
    lists = [ReadList("s", Part.TRAIN, q, (p,), (0.0,)) for q, p in [("q", "21.5"), ("q2", "1.5")]]
    _check(lists, await teacher.score(lists, Counting(), tmp_path, advance=lambda _: None))


async def test_damaged_judgements_are_a_typed_error(tmp_path: Path) -> None:
    await teacher.score(LISTS, Counting(), tmp_path, advance=lambda _: None)
    path = tmp_path / "000000.npz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelError, match=path.name):
        await teacher.score(LISTS, Counting(), tmp_path, advance=lambda _: None)


async def test_neither_are_arrays_of_something_else(tmp_path: Path) -> None:
    for arrays in ({"other": np.zeros(2)}, {"digests": np.zeros((2, 16), np.uint8), "logits": np.zeros(1)}):
        np.savez(tmp_path / "000000.npz", **arrays)  # type: ignore[arg-type]
        with pytest.raises(ModelError, match="no judgements of the teacher"):
            await teacher.score(LISTS, Counting(), tmp_path, advance=lambda _: None)


def _check(lists: Sequence[ReadList], scores: Sequence[NDArray[np.float32]]) -> None:
    for one, judged in zip(lists, scores, strict=True):
        np.testing.assert_allclose(judged, [float(passage[1:]) for passage in one.passages])
