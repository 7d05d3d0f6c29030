"""Training on a tiny BERT: it learns, and a run that was stopped ends with the same weights as one that wasn't."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer

from lightmem_server.slm.distill import batches, bert, training
from lightmem_server.slm.distill.batches import encode_lists
from lightmem_server.slm.distill.lists import ReadList
from lightmem_server.slm.distill.losses import imitation
from lightmem_server.slm.distill.sets import Part
from lightmem_server.slm.distill.student import strip_prefix
from lightmem_server.slm.distill.training import FROZEN, Schedule, train
from tests.unit.slm import tiny_bert

FIRST = strip_prefix(tiny_bert.make_weights(3, is_cross_encoder=True))
TEACHER = strip_prefix(tiny_bert.make_weights(4, is_cross_encoder=True))
PASSAGES = ("the cat sat on the mat", "anna lives in paris", "ben likes tea")
LISTS = [
    ReadList("s", Part.TRAIN, query, PASSAGES, tuple(float(n == answer) for n in range(3)))
    for query, answer in (("where is the cat", 0), ("who lives in paris", 1), ("what is red", 0), ("ben drinks", 2)) * 8
]
SCORES = [np.array([6.0 if label else -6.0 for label in one.labels], np.float32) for one in LISTS]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny BERT reads no more than so much."""
    monkeypatch.setattr(batches, "LENGTHS", (16, tiny_bert.MAX_TOKENS))


class StoppedError(Exception):
    pass


def run(
    folder: Path, advance: Callable[[int, int, float], None] = lambda *_: None, *, imitating: float = 0.5
) -> dict[str, np.ndarray]:
    path = folder / "tokenizer.json"
    folder.mkdir(parents=True, exist_ok=True)
    tiny_bert.make_tokenizer(path)
    encodings = encode_lists(Tokenizer.from_file(str(path)), LISTS)
    return train(
        FIRST,
        LISTS,
        encodings,
        SCORES,
        folder,
        teacher=TEACHER,
        heads=tiny_bert.HEADS,
        schedule=Schedule(epochs=3.0, peak=3e-3, imitating=imitating),
        seed=1,
        advance=advance,
    )


def test_it_learns_and_leaves_the_words_as_they_were(tmp_path: Path) -> None:
    losses: list[float] = []
    trained = run(tmp_path, lambda step, steps, loss: losses.append(loss))
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) / 2
    for name in FROZEN:
        np.testing.assert_array_equal(trained[name], FIRST[name])
    assert trained.keys() == FIRST.keys()


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 4)

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 6:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(tmp_path / "stopped", stop)
    steps: list[int] = []
    continued = run(tmp_path / "stopped", lambda step, _, __: steps.append(step))
    assert steps[0] == 5, "from what was saved last"
    whole = run(tmp_path / "whole")
    for name, array in whole.items():
        np.testing.assert_allclose(continued[name], array, atol=1e-6, err_msg=name)


def test_a_student_that_imitates_comes_nearer_to_the_teachers_states(tmp_path: Path) -> None:
    alone, imitating = (far(run(tmp_path / str(share), imitating=share)) for share in (0.0, 1.0))
    assert imitating < far(FIRST) / 2
    assert imitating < alone / 2


def far(weights: dict[str, np.ndarray]) -> float:
    ids, types = np.array([[2, 5, 7, 9, 3, 8, 11, 3]]), np.array([[0, 0, 0, 0, 0, 1, 1, 1]])
    student, teacher = (
        bert.read(
            {name: jnp.asarray(array) for name, array in one.items()},
            ids,
            types,
            np.ones((1, 8)),
            heads=tiny_bert.HEADS,
        )
        for one in (weights, TEACHER)
    )
    return float(imitation(student.states, teacher.states, jnp.ones((1, 8))))
