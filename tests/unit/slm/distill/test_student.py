"""The student before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightmem_server.errors import InvalidInputError, ModelError
from lightmem_server.slm.convert import TOKENIZER_FILE, convert_bert
from lightmem_server.slm.distill.batches import Pairs
from lightmem_server.slm.distill.bert import count_layers
from lightmem_server.slm.distill.student import chosen_layers, make_student, read_student, strip_prefix
from tests.unit.slm import tiny_bert

TEACHER = strip_prefix(tiny_bert.make_weights(2, is_cross_encoder=True))
SAMPLE = Pairs(
    np.array([[2, 5, 3, 8, 3]], np.int32), np.array([[0, 0, 0, 1, 1]], np.int32), np.ones((1, 5), np.float32)
)


def test_layers_are_spread_from_the_first_to_the_last() -> None:
    assert chosen_layers(3, 12) == [0, 6, 11]
    assert chosen_layers(12, 12) == list(range(12))


def test_one_as_large_as_the_teacher_is_the_teacher() -> None:
    student = make_student(TEACHER, SAMPLE, layers=tiny_bert.LAYERS, width=tiny_bert.FFN, heads=tiny_bert.HEADS)
    assert student.keys() == TEACHER.keys()
    for name, array in student.items():
        np.testing.assert_array_equal(array, TEACHER[name])


def test_a_smaller_one_keeps_whole_neurons_and_can_be_converted(tmp_path: Path) -> None:
    student = make_student(TEACHER, SAMPLE, layers=1, width=10, heads=tiny_bert.HEADS)
    assert count_layers(student) == 1  # type: ignore[arg-type]
    inner = student["encoder.layer.0.intermediate.dense.weight"]
    whole = TEACHER["encoder.layer.0.intermediate.dense.weight"]
    rows = [int(np.flatnonzero((whole == row).all(axis=1))[0]) for row in inner]
    assert len(set(rows)) == 10
    np.testing.assert_array_equal(
        student["encoder.layer.0.intermediate.dense.bias"],
        TEACHER["encoder.layer.0.intermediate.dense.bias"][rows],
    )
    np.testing.assert_array_equal(
        student["encoder.layer.0.output.dense.weight"], TEACHER["encoder.layer.0.output.dense.weight"][:, rows]
    )
    tiny_bert.make_tokenizer(tmp_path / TOKENIZER_FILE)
    convert_bert(student, tmp_path / TOKENIZER_FILE, tmp_path / "out", heads=tiny_bert.HEADS, is_cross_encoder=True)


def test_a_trained_student_is_read_back_if_it_has_the_size(tmp_path: Path) -> None:
    student = make_student(TEACHER, SAMPLE, layers=1, width=10, heads=tiny_bert.HEADS)
    path = tmp_path / "weights.npz"
    np.savez(path, **student)  # type: ignore[arg-type]
    read = read_student(path, like=student)
    assert read.keys() == student.keys()
    for name, array in student.items():
        np.testing.assert_array_equal(read[name], array)
    wider = make_student(TEACHER, SAMPLE, layers=1, width=11, heads=tiny_bert.HEADS)
    with pytest.raises(InvalidInputError, match="another size"):
        read_student(path, like=wider)


@pytest.mark.parametrize("content", [None, b"", b"no weights", b"PK\x03\x04 cut off", b"array"])
def test_what_holds_no_weights_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.npz"
    if content == b"array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="holds no weights"):
        read_student(path)
