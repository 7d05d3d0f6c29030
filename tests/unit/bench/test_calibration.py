"""The fit of relevance: that it finds the model that made the data, and says how well a model is calibrated."""

import io
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lightmem_server.pipeline.tuning import Calibration
from lightmem_server.slm.distill.calibration import fit_logistic
from tests.bench import calibration
from tests.bench.calibration import Asked, Candidates, Fitted, fit, reliability

TRUE = Fitted(Calibration(-4.0, 1.2, 0.3), Calibration(-5.0, 1.6, 0.0))


def made(seed: int, count: int = 20_000, *, truth: Fitted = TRUE) -> Asked:
    """Candidates whose evidence was drawn by `truth`."""
    generator = np.random.default_rng(seed)

    def drawn(logit: calibration.Floats) -> Candidates:
        coarse = generator.normal(3.0, 1.0, count)
        nothing = np.zeros(count, np.bool_)
        likely = truth.probabilities(Candidates(coarse, logit, nothing))
        return Candidates(coarse, logit, generator.random(count) < likely)

    logit = np.where(generator.random(count) < 0.4, generator.normal(-3.0, 5.0, count), np.nan)
    return Asked(fast=drawn(logit), off=drawn(np.full(count, np.nan)))


def test_the_fit_finds_the_model_that_made_the_data() -> None:
    found = fit([made(seed) for seed in range(4)])
    assert astuple(found.judged) == pytest.approx(astuple(TRUE.judged), rel=0.1)
    assert astuple(found.not_judged) == pytest.approx(astuple(TRUE.not_judged), rel=0.1)


def test_data_that_a_line_parts_still_has_a_fit() -> None:
    features = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    bias, weight = fit_logistic(features, np.array([False, False, True, True]))
    assert np.isfinite([bias, weight]).all()
    assert weight > 1


def test_bins_have_like_counts_and_are_ordered() -> None:
    generator = np.random.default_rng(0)
    likely = generator.random(1005)
    bins = reliability(likely, generator.random(1005) < likely)
    assert {part["count"] for part in bins} == {100, 101}
    predicted = [part["predicted"] for part in bins]
    assert predicted == sorted(predicted)


def test_users_are_judged_by_what_was_fitted_on_the_others() -> None:
    other = Fitted(Calibration(4.0, -1.2, 0.3), Calibration(5.0, -1.6, 0.0))
    users = {f"u{seed}": made(seed) for seed in range(4)} | {"odd": made(9, truth=other)}
    by_user = calibration.figures(users, TRUE)["modes"]["mode FAST"]["ece_left_out_by_user"]
    assert by_user["odd"] > 0.3 > max(by_user[f"u{seed}"] for seed in range(4))


def test_the_table_shows_what_was_fitted_beside_what_is_in_use() -> None:
    screen = io.StringIO()
    calibration.print_tables(Console(file=screen, width=120), calibration.figures({"a": made(0), "b": made(1)}, TRUE))
    text = screen.getvalue()
    assert "JUDGED.bias" in text
    assert f"{TRUE.judged.bias:.3f}" in text
    assert "on users left out" in text


def test_without_data_nothing_is_fitted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert calibration.main([]) == 0
    assert calibration.main(["--data", str(tmp_path / "none")]) == 0
    assert "SKIPPED" in capsys.readouterr().err
