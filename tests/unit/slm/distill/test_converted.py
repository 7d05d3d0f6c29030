"""A converted model is read back, for a student that goes on from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.convert import HEAD_FILE, TOKENIZER_FILE, convert_bert
from lightmem_server.slm.distill.converted import MODEL_FILE, read_converted
from lightmem_server.slm.distill.student import Weights, read_student, strip_prefix
from tests.unit.slm import tiny_bert

WEIGHTS = strip_prefix(tiny_bert.make_weights(2, is_cross_encoder=True))


def convert(weights: Weights, folder: Path, quantization: str = "int8") -> Path:
    folder.mkdir()
    tokenizer = folder / TOKENIZER_FILE
    tiny_bert.make_tokenizer(tokenizer)
    model = folder / "model"
    convert_bert(weights, tokenizer, model, heads=tiny_bert.HEADS, is_cross_encoder=True, quantization=quantization)
    return model


def test_float32_weights_come_back_as_they_were(tmp_path: Path) -> None:
    read = read_converted(convert(WEIGHTS, tmp_path / "a", "float32"))
    assert read.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(read[name], array, err_msg=name)


def test_int8_weights_come_back_within_half_a_step_and_convert_to_the_same_model(tmp_path: Path) -> None:
    model = convert(WEIGHTS, tmp_path / "a")
    read = read_converted(model)
    assert read.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        step = np.abs(array).max(axis=-1, keepdims=True) / 127
        assert (np.abs(read[name] - array) <= step * 0.501).all(), name
    again = convert(read, tmp_path / "b")
    for file in (MODEL_FILE, HEAD_FILE):
        assert (again / file).read_bytes() == (model / file).read_bytes()


def test_a_student_goes_on_from_a_converted_model_of_its_size(tmp_path: Path) -> None:
    model = convert(WEIGHTS, tmp_path / "a")
    assert read_student(model, like=WEIGHTS).keys() == WEIGHTS.keys()
    narrower = {**WEIGHTS, "encoder.layer.0.intermediate.dense.bias": np.zeros(3, np.float32)}
    with pytest.raises(InvalidInputError, match="another size"):
        read_student(model, like=narrower)


@pytest.mark.parametrize("kept", [0, 3, 40, 0.5, 0.999])
def test_a_model_that_is_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    model = convert(WEIGHTS, tmp_path / "a")
    path = model / MODEL_FILE
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(len(data) * kept)])
    with pytest.raises(InvalidInputError, match="holds no converted cross-encoder: cut off"):
        read_converted(model)


@pytest.mark.parametrize("missing", [MODEL_FILE, HEAD_FILE])
def test_a_folder_without_one_is_refused(tmp_path: Path, missing: str) -> None:
    model = convert(WEIGHTS, tmp_path / "a")
    (model / missing).unlink()
    with pytest.raises(InvalidInputError, match="holds no"):
        read_converted(model)


def test_a_later_version_of_the_format_is_refused(tmp_path: Path) -> None:
    model = convert(WEIGHTS, tmp_path / "a")
    (model / MODEL_FILE).write_bytes(b"\x07\0\0\0" + bytes(64))
    with pytest.raises(InvalidInputError, match="another version"):
        read_converted(model)


@pytest.mark.parametrize("content", [b"", b"no arrays", b"PK\x03\x04 cut off", b"array"])
def test_a_damaged_head_is_refused(tmp_path: Path, content: bytes) -> None:
    model = convert(WEIGHTS, tmp_path / "a")
    path = model / HEAD_FILE
    if content == b"array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"head\.npz holds no weights"):
        read_converted(model)
