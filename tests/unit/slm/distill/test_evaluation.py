"""Figures of lists, and calibration."""

from __future__ import annotations

import numpy as np
import pytest

from lightmem_server.slm.distill import calibration
from lightmem_server.slm.distill.evaluation import (
    abstain,
    calibration_error,
    choose_threshold,
    evaluate,
    to_probabilities,
)
from lightmem_server.slm.distill.lists import ReadList
from lightmem_server.slm.distill.sets import Part


def _list(set_name: str, labels: tuple[float, ...]) -> ReadList:
    return ReadList(set_name, Part.TEST, "q", tuple(f"p{n}" for n in range(len(labels))), labels)


def test_ranks_are_those_of_the_first_answer_and_unanswerable_ones_have_none() -> None:
    lists = [_list("a", (0.0, 1.0, 1.0)), _list("a", (1.0, 0.0)), _list("b", (0.0, 0.0)), _list("b", (1.0, 0.0))]
    logits = [np.array(row, np.float32) for row in ([3, 2, 1], [1, 0], [0, 1], [5, 5])]
    figures = evaluate(lists, logits)
    assert figures["a"].questions == 2
    assert (figures["a"].hit1, figures["a"].mrr) == (0.5, 0.75)
    assert figures["b"].questions == 1
    assert figures["all"].mrr == pytest.approx((0.5 + 1 + 1) / 3)


def test_a_probability_that_holds_has_no_calibration_error() -> None:
    drawn = np.random.default_rng(0)
    probabilities = drawn.uniform(0, 1, 20_000)
    labels = (drawn.uniform(0, 1, 20_000) < probabilities).astype(np.float64)
    assert calibration_error(probabilities, labels) < 0.02
    assert calibration_error(probabilities**2, labels) > 0.1


def test_scale_and_bias_are_found_and_go_into_the_classifier() -> None:
    drawn = np.random.default_rng(0)
    logits = [drawn.normal(0, 3, 100).astype(np.float32) for _ in range(80)]
    chance = [to_probabilities(0.5 * one - 1.0) for one in logits]
    lists = [_list("a", tuple((drawn.uniform(0, 1, 100) < p).astype(float).tolist())) for p in chance]
    scale, bias = calibration.fit(lists, logits)
    assert scale == pytest.approx(0.5, abs=0.05)
    assert bias == pytest.approx(-1.0, abs=0.1)
    weights = {"classifier.weight": np.ones((1, 4), np.float32), "classifier.bias": np.full(1, 3.0, np.float32)}
    changed = calibration.apply(weights, 0.5, -1.0)
    assert changed["classifier.weight"].tolist() == [[0.5] * 4]
    assert changed["classifier.bias"].tolist() == [0.5]


def test_a_threshold_is_chosen_by_what_it_loses_and_told_by_what_it_keeps_silent() -> None:
    answered = [_list("a", (1.0, 0.0))] * 50
    unanswered = [_list("a", (0.0, 0.0))] * 10
    logits = [np.array([n / 10, -5], np.float32) for n in range(50)]
    logits += [np.array([n / 5, -5], np.float32) for n in range(10)]
    threshold = choose_threshold(answered + unanswered, logits, 0.1)
    found = abstain(answered + unanswered, logits, threshold)
    assert 0.08 <= found.answers_lost <= 0.1
    assert to_probabilities(np.array([0.3, 0.6])).tolist()[0] < threshold < to_probabilities(np.array([0.6])).item()
    assert found.kept_silent == 0.3, "those under it: 0, .2 and .4"
    assert abstain(answered, logits[:50], 0.0).answers_lost == 0.0
