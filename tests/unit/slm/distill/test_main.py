"""The recipe's command: with which student it begins, and what it tells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.convert import TOKENIZER_FILE, convert_bert
from lightmem_server.slm.distill.__main__ import UNCALIBRATED, begin, check_first, main, parse, shown
from lightmem_server.slm.distill.batches import Pairs
from lightmem_server.slm.distill.evaluation import evaluate
from lightmem_server.slm.distill.lists import ReadList
from lightmem_server.slm.distill.sets import Part
from lightmem_server.slm.distill.student import strip_prefix
from tests.unit.slm import tiny_bert

TEACHER = strip_prefix(tiny_bert.make_weights(2, is_cross_encoder=True))
SAMPLE = Pairs(
    np.array([[2, 5, 3, 8, 3]], np.int32), np.array([[0, 0, 0, 1, 1]], np.int32), np.ones((1, 5), np.float32)
)


def test_it_begins_with_layers_of_the_teacher_or_goes_on_from_a_student_of_that_size(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    of_teacher = parse(["--data", "x", "--layers", "1", "--width", "10"])
    go_on = parse(["--data", "x", "--layers", "1", "--width", "10", "--first", str(path)])
    made = begin(of_teacher, TEACHER, SAMPLE, tiny_bert.HEADS)
    np.savez(path, **{name: array + 1 for name, array in made.items()})  # type: ignore[arg-type]
    first = begin(go_on, TEACHER, SAMPLE, tiny_bert.HEADS)
    assert first.keys() == made.keys()
    for name, array in made.items():
        np.testing.assert_array_equal(first[name], array + 1)
    with pytest.raises(InvalidInputError, match="another size"):
        begin(replace(go_on, width=11), TEACHER, SAMPLE, tiny_bert.HEADS)


def test_from_a_converted_model_it_goes_on_without_its_calibration(tmp_path: Path) -> None:
    tiny_bert.make_tokenizer(tmp_path / TOKENIZER_FILE)
    model = tmp_path / "model"
    sizes = ["--layers", str(tiny_bert.LAYERS), "--width", str(tiny_bert.FFN)]
    convert_bert(TEACHER, tmp_path / TOKENIZER_FILE, model, heads=tiny_bert.HEADS, is_cross_encoder=True)
    first = begin(parse(["--data", "x", *sizes, "--first", str(model)]), TEACHER, SAMPLE, tiny_bert.HEADS)
    for name in ("classifier.weight", "classifier.bias"):
        np.testing.assert_allclose(first[name], TEACHER[name] * UNCALIBRATED)
    np.testing.assert_allclose(first["pooler.dense.bias"], TEACHER["pooler.dense.bias"])


def test_a_wrong_student_to_go_on_from_is_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, student = tmp_path / "work", tmp_path / "student.npz"
    no_student, lone_number = tmp_path / "no_student.npz", tmp_path / "lone_number.npz"
    np.savez(student, **TEACHER)  # type: ignore[arg-type]
    np.savez(no_student, pooled=np.zeros(3))
    np.savez(lone_number, **{"encoder.layer.0.intermediate.dense.bias": np.array(3)})  # type: ignore[arg-type]
    odd_name = tmp_path / "odd_name.npz"
    np.savez(odd_name, **{"encoder.layer.0.intermediate.dense.bias": np.zeros(3), "encoder.layer.x.y": np.zeros(3)})  # type: ignore[arg-type]
    common = ["--data", str(tmp_path / "none"), "--work", str(work), "--layers", str(tiny_bert.LAYERS)]
    for first, width, told in [
        (tmp_path / "missing.npz", tiny_bert.FFN, "missing.npz"),
        (no_student, tiny_bert.FFN, "no student's"),
        (lone_number, tiny_bert.FFN, "no student's"),
        (odd_name, tiny_bert.FFN, "no student's"),
        (student, tiny_bert.FFN + 1, f"{tiny_bert.LAYERS} layers of {tiny_bert.FFN}"),
    ]:
        assert main([*common, "--width", str(width), "--first", str(first)]) == 1
        assert told in capsys.readouterr().err
        assert not work.exists()
    check_first(parse([*common, "--width", str(tiny_bert.FFN), "--first", str(student)]))


def test_figures_of_a_set_without_answers_are_json_all_the_same() -> None:
    lists = [ReadList("s", Part.TEST, "who", ("a", "b"), (0.0, 0.0))]
    figures = shown(evaluate(lists, [np.array([1.0, -1.0], np.float32)]))
    assert figures["s"]["mrr"] is None
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
