"""The loss over the steps, as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np

SMOOTHED = 25


def plot_loss(log: Path, target: Path) -> None:
    """Draw what training.py wrote to `loss.jsonl`: each step's loss, and the mean of SMOOTHED."""
    mpl.use("svg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    steps = np.array([row["step"] for row in rows])
    losses = np.array([row["loss"] for row in rows])
    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    axes.plot(steps, losses, linewidth=0.4, alpha=0.5)
    if len(losses) >= SMOOTHED:
        axes.plot(steps[SMOOTHED - 1 :], np.convolve(losses, np.ones(SMOOTHED) / SMOOTHED, "valid"))
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    figure.tight_layout()
    figure.savefig(target)
    pyplot.close(figure)
