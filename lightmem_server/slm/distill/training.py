"""Trains a student, and goes on where it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from tokenizers import Encoding

from lightmem_server.slm.distill import bert
from lightmem_server.slm.distill.batches import Batch, batches
from lightmem_server.slm.distill.lists import ReadList
from lightmem_server.slm.distill.losses import IMITATION, imitation, loss
from lightmem_server.slm.distill.student import imitated_layers

FROZEN = ("embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight")
"""Kept as the teacher has them: most words never occur in the lists, and all must stay where their neighbours are."""

SAVE_EVERY = 200


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast it learns.

    Attributes:
        epochs: Times that it sees every list.
        peak: Highest learning rate, after a twentieth of all steps; then it falls along a cosine to nothing.
        imitating: Share of the steps, the first ones, in which it learns the teacher's states too. Such a step takes twice as
            long.
        is_exact: Whether products are computed in float32, see bert.product.
    """

    epochs: float = 1.0
    peak: float = 3e-4
    decay: float = 0.01
    clip: float = 1.0
    imitating: float = 0.3
    is_exact: bool = False

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """AdamW with clipped gradients."""
        rate = optax.warmup_cosine_decay_schedule(0.0, self.peak, max(steps // 20, 1), steps)
        return optax.chain(optax.clip_by_global_norm(self.clip), optax.adamw(rate, weight_decay=self.decay))


def train(
    first: Mapping[str, NDArray[np.float32]],
    lists: Sequence[ReadList],
    encodings: Sequence[Sequence[Encoding]],
    scores: Sequence[NDArray[np.float32]],
    folder: Path,
    *,
    teacher: Mapping[str, NDArray[np.float32]],
    heads: int,
    schedule: Schedule,
    seed: int,
    advance: Callable[[int, int, float], None],
) -> dict[str, NDArray[np.float32]]:
    """The trained weights.

    Args:
        first: The student's first weights, names without prefix.
        teacher: The teacher's, as well.
        folder: Of `state.npz`, written every SAVE_EVERY steps, and `loss.jsonl`; what is there is continued.
        advance: Told the step, of how many, and the loss.
    """
    frozen = {name: jnp.asarray(array) for name, array in first.items() if name in FROZEN}
    learnt = {name: jnp.asarray(array) for name, array in first.items() if name not in FROZEN}
    per_epoch = sum(1 for _ in batches(lists, encodings, scores, np.random.default_rng(0)))
    steps = int(per_epoch * schedule.epochs)
    optimizer = schedule.optimizer(steps)
    state = optimizer.init(learnt)
    done = 0
    path = folder / "state.npz"
    if path.exists():
        learnt, state, done = _load(path, learnt, state)

    of_teacher = {name: jnp.asarray(array) for name, array in teacher.items()}
    imitated = imitated_layers(bert.count_layers({**frozen, **learnt}), bert.count_layers(of_teacher))
    dtype = jnp.float32 if schedule.is_exact else jnp.bfloat16

    def of_batch(
        learnt: bert.Params, of_teacher: bert.Params, batch: Mapping[str, Any], is_imitating: bool
    ) -> jax.Array:
        params = {**frozen, **learnt}
        readings = [bert.read(params, *half, heads=heads, dtype=dtype) for half in batch["halves"]]
        found = jnp.concatenate([reading.logits for reading in readings])
        logits = jnp.zeros(found.shape[0]).at[batch["places"]].set(found).reshape(batch["scores"].shape)
        total = loss(logits, batch["scores"], batch["labels"], batch["present"])
        if is_imitating:
            for half, reading in zip(batch["halves"], readings, strict=True):
                taught = bert.read(of_teacher, *half, heads=heads, dtype=dtype)
                total += (
                    IMITATION / 2 * imitation(reading.states, [taught.states[index] for index in imitated], half[2])
                )
        return total

    def update(
        learnt: Any, state: Any, of_teacher: bert.Params, batch: Mapping[str, Any], is_imitating: bool
    ) -> tuple[Any, Any, jax.Array]:
        value, gradient = jax.value_and_grad(of_batch)(learnt, of_teacher, batch, is_imitating)
        updates, state = optimizer.update(gradient, state, learnt)
        return optax.apply_updates(learnt, updates), state, value

    step = jax.jit(update, static_argnums=4)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "loss.jsonl").open("a", encoding="utf-8", buffering=1) as log:
        for number, batch in _from_step(done, steps, lists, encodings, scores, seed):
            began = time.monotonic()
            is_imitating = number <= steps * schedule.imitating
            learnt, state, value = step(learnt, state, of_teacher, _arrays(batch), is_imitating)
            log.write(
                json.dumps({"step": number, "loss": float(value), "seconds": round(time.monotonic() - began, 3)}) + "\n"
            )
            advance(number, steps, float(value))
            if number % SAVE_EVERY == 0 or number == steps:
                _save(path, learnt, state, number)
    return {name: np.asarray(array) for name, array in {**frozen, **learnt}.items()}


def _from_step(done: int, steps: int, lists: Any, encodings: Any, scores: Any, seed: int) -> Any:
    """Numbered batches behind `done`, the same in every run with the same seed."""
    number = epoch = 0
    while number < steps:
        for batch in batches(lists, encodings, scores, np.random.default_rng([seed, epoch])):
            number += 1
            if number > steps:
                return
            if number > done:
                yield number, batch
        epoch += 1


def _arrays(batch: Batch) -> Mapping[str, Any]:
    return {
        "halves": tuple(tuple(half) for half in batch.halves),
        "places": batch.places,
        "scores": batch.scores,
        "labels": batch.labels,
        "present": batch.present,
    }


def _save(path: Path, learnt: Any, state: Any, step: int) -> None:
    leaves = jax.tree.leaves((learnt, state))
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.savez(file, step, *(np.asarray(leaf) for leaf in leaves))
    temporary.replace(path)


def _load(path: Path, learnt: Any, state: Any) -> tuple[Any, Any, int]:
    structure = jax.tree.structure((learnt, state))
    with np.load(path) as arrays:
        done, *leaves = (arrays[name] for name in arrays.files)
    learnt, state = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])
    return learnt, state, int(done)
