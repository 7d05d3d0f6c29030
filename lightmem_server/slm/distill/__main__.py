"""The recipe, one command: lists, the teacher's judgements, training, calibration, figures, the converted model.

Each step's result lies in the work folder and isn't made again, so a run that was stopped goes on: --work names a new folder
for another seed or other data. Where data was added, delete lists.jsonl.gz and the student's folder: what the teacher said of
a pair stays known. On two cores the lists take some minutes and the teacher half an hour; a step of the student one to three
seconds, on such as have instructions for bfloat16, of some three thousand an epoch.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Encoding, Tokenizer

from lightmem_server.errors import InvalidInputError, LightMemError
from lightmem_server.slm.convert import READERS, TOKENIZER_FILE, convert_bert
from lightmem_server.slm.distill import bert, calibration
from lightmem_server.slm.distill.batches import Pairs, encode_lists, pad
from lightmem_server.slm.distill.evaluation import abstain, choose_threshold, evaluate
from lightmem_server.slm.distill.lists import (
    PASSAGES,
    ReadList,
    drop_rivals,
    load_lists,
    make_lists,
    read_questions,
    save_lists,
)
from lightmem_server.slm.distill.plot import plot_loss
from lightmem_server.slm.distill.sets import Part
from lightmem_server.slm.distill.student import Weights, make_student, read_student, size_of, strip_prefix
from lightmem_server.slm.distill.teacher import score
from lightmem_server.slm.distill.training import Schedule, train
from lightmem_server.slm.embedder import load_embedder
from lightmem_server.slm.manifest import load_manifest
from lightmem_server.slm.models import default_models_dir
from lightmem_server.slm.pull import fetch_source
from lightmem_server.slm.selector import load_selector

TEACHER = "ms-marco-MiniLM-L-12-v2"
EMBEDDER = "bge-small-en-v1.5"
FORMAT = "onnx"
"""Of the teacher's weights."""
SAMPLE_LISTS = 8
QUEUE = 1 << 16
DEFAULT = Schedule()
UNCALIBRATED = 2.0
"""What the logits of a converted model are multiplied by to go on from it: calibration brought them together, and with this the
loss is least (4.84 where it is 5.60 with 1, over 2,000 lists and the weights of commit 9e3d117)."""
MOST_LOST = 0.02
"""Of the answers, for the sake of keeping silent where there is none."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    data: Path
    work: Path
    models: Path
    layers: int
    width: int
    lists: int | None
    first: Path | None
    schedule: Schedule
    seed: int

    @property
    def folder(self) -> Path:
        """Of this student; lists and judgements are shared by those of other sizes."""
        return self.work / f"{self.layers}x{self.width}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe. Returns the exit code."""
    options = parse(arguments)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    try:
        with bars:
            figures = run(options, bars)
    except LightMemError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return 1
    print(json.dumps(figures, indent=2))
    return 0


def run(options: Options, bars: Progress) -> dict[str, Any]:
    """All steps; the figures."""
    check_first(options)
    (options.work / "judged").mkdir(parents=True, exist_ok=True)
    # Each shape of a batch takes seconds to compile; a run that goes on, or another student of this size, doesn't wait again.
    cache = str((options.work / "compiled").resolve())
    jax.config.update("jax_compilation_cache_dir", cache)  # type: ignore[no-untyped-call]
    lists = asyncio.run(_lists(options))
    scores = asyncio.run(_scores(options, lists, bars))
    kept = [drop_rivals(one, judged) for one, judged in zip(lists, scores, strict=True)]
    lists, scores = [one for one, _ in kept], [judged for _, judged in kept]
    files = options.work / "teacher"
    fetch_source(TEACHER, files, options.models, progress=_Quiet())
    source = load_manifest().get(TEACHER)
    teacher = strip_prefix(READERS[FORMAT](files / "weights"))
    encodings = encode_lists(Tokenizer.from_file(str(files / TOKENIZER_FILE)), lists)

    weights_path = options.folder / "weights.npz"
    if not weights_path.exists():
        of = [index for index, one in enumerate(lists) if one.part is Part.TRAIN]
        sample = pad([pair for index in of[:SAMPLE_LISTS] for pair in encodings[index]])
        first = begin(options, teacher, sample, source.heads)
        task = bars.add_task("training", total=None, note="")
        trained = train(
            first,
            [lists[index] for index in of],
            [encodings[index] for index in of],
            [scores[index] for index in of],
            options.folder,
            teacher=teacher,
            heads=source.heads,
            schedule=options.schedule,
            seed=options.seed,
            advance=lambda step, steps, loss: bars.update(task, completed=step, total=steps, note=f"loss {loss:.2f}"),
        )
        np.savez(weights_path, **trained)  # type: ignore[arg-type]
        plot_loss(options.folder / "loss.jsonl", options.folder / "loss.svg")
    weights = read_student(weights_path)

    tune = [index for index, one in enumerate(lists) if one.part is Part.TUNE]
    tuned_lists = [lists[index] for index in tune]
    tuned = _judge(weights, [encodings[index] for index in tune], source.heads, bars, "calibrating")
    scale, bias = calibration.fit(tuned_lists, tuned)
    tuned = [np.float32(scale) * logits + np.float32(bias) for logits in tuned]
    weights = calibration.apply(weights, scale, bias)

    test = [index for index, one in enumerate(lists) if one.part is Part.TEST]
    tested = [lists[index] for index in test]
    judged = _judge(weights, [encodings[index] for index in test], source.heads, bars, "testing")
    made = options.folder / "model"
    if not made.exists():
        convert_bert(weights, files / TOKENIZER_FILE, made, heads=source.heads, is_cross_encoder=True)
    figures = {
        "settings": {
            "layers": options.layers,
            "width": options.width,
            "seed": options.seed,
            **asdict(options.schedule),
        },
        "lists": {part.value: sum(one.part is part for one in lists) for part in Part},
        "calibration": {"scale": scale, "bias": bias},
        "teacher": shown(evaluate(tested, [scores[index] for index in test])),
        "student": shown(evaluate(tested, judged)),
        "abstention": asdict(abstain(tested, judged, choose_threshold(tuned_lists, tuned, MOST_LOST))),
        "model_bytes": sum(path.stat().st_size for path in made.iterdir()),
    }
    (options.folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return figures


def check_first(options: Options) -> None:
    """Before the work of an hour: that there is a student of that size to go on from.

    Raises:
        ModelError, InvalidInputError: There is none.
    """
    if options.first is None:
        return
    layers, width = size_of(read_student(options.first))
    if (layers, width) != (options.layers, options.width):
        raise InvalidInputError("first", f"{options.first} is a student of {layers} layers of {width}, another size")


def begin(options: Options, teacher: Weights, sample: Pairs, heads: int) -> dict[str, NDArray[np.float32]]:
    """The student before training: of the teacher's layers, or the one to go on from, which has to have that size."""
    made = make_student(teacher, sample, layers=options.layers, width=options.width, heads=heads)
    if options.first is None:
        return made
    first = read_student(options.first, like=made)
    return calibration.apply(first, UNCALIBRATED, 0.0) if options.first.is_dir() else first


async def _lists(options: Options) -> list[ReadList]:
    path = options.work / "lists.jsonl.gz"
    if not path.exists():
        embedder = load_embedder(options.models, EMBEDDER, max_queued_texts=QUEUE)
        try:
            questions = read_questions(options.data, options.seed)
            save_lists(await make_lists(questions, embedder, options.seed), path)
        finally:
            await embedder.close()
    return load_lists(path)[: options.lists]


async def _scores(options: Options, lists: Sequence[ReadList], bars: Progress) -> list[NDArray[np.float32]]:
    task = bars.add_task("the teacher's judgements", total=len(lists), note="lists")
    teacher = load_selector(options.models, TEACHER, max_queued_passages=QUEUE)
    try:
        return await score(lists, teacher, options.work / "judged", advance=functools.partial(bars.advance, task))
    finally:
        await teacher.close()


def _judge(
    weights: dict[str, NDArray[np.float32]],
    encodings: Sequence[Sequence[Encoding]],
    heads: int,
    bars: Progress,
    title: str,
) -> list[NDArray[np.float32]]:
    computed = jax.jit(lambda *given: bert.read(*given, heads=heads).logits)

    def judge(pairs: Sequence[Encoding]) -> NDArray[np.float32]:
        spare = [pairs[0]] * (PASSAGES - len(pairs))  # of as many rows each, so that few shapes are compiled
        return np.asarray(computed(weights, *pad([*pairs, *spare])))[: len(pairs)]

    task = bars.add_task(title, note="lists")
    return [judge(pairs) for pairs in bars.track(encodings, description=title, task_id=task)]


class _Quiet:
    """A pull's progress that nobody hears: the download takes seconds of a run's hours."""

    def say(self, message: str) -> None: ...

    def advance(self, title: str, done_bytes: int, total_bytes: int) -> None: ...


def shown(figures: Any) -> dict[str, Any]:
    return {
        name: {key: None if value is None else round(value, 4) for key, value in asdict(one).items()}
        for name, one in figures.items()
    }


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m lightmem_server.slm.distill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of *.jsonl.gz, as sets.py describes them")
    parser.add_argument(
        "--work", type=Path, default=Path("target/distill"), help="results of every step (target/distill)"
    )
    parser.add_argument("--models-dir", type=Path, default=default_models_dir())
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=1024, help="inner neurons of a layer; the teacher has 1,536")
    parser.add_argument("--lists", type=int, help="questions, drawn from all (all)")
    parser.add_argument(
        "--first",
        type=Path,
        metavar="WEIGHTS",
        help="a trained student of this size to go on from, weights.npz or the folder of a model (the teacher's layers)",
    )
    parser.add_argument("--epochs", type=float, default=DEFAULT.epochs, help="(%(default)s)")
    parser.add_argument("--rate", type=float, default=DEFAULT.peak, help="highest learning rate (%(default)s)")
    parser.add_argument(
        "--imitating",
        type=float,
        default=DEFAULT.imitating,
        help="share of the steps in which the teacher's states are learnt too (%(default)s)",
    )
    parser.add_argument(
        "--float32", action="store_true", help="exact products, for processors without instructions for bfloat16"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    return Options(
        given.data,
        given.work,
        given.models_dir,
        given.layers,
        given.width,
        given.lists,
        given.first,
        Schedule(epochs=given.epochs, peak=given.rate, imitating=given.imitating, is_exact=given.float32),
        given.seed,
    )


if __name__ == "__main__":
    sys.exit(main())
