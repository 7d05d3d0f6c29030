"""What each part of retrieval is worth: the pipeline in this process, on real models that remember, one part off at a time.

    python -m tests.bench.ablation --data locomo10.json              each part off, with what is lost
    python -m tests.bench.ablation --data locomo10.json --choose     constants chosen on nine dialogues, judged on the tenth
    python -m tests.bench.ablation --layout jsonl DIR                any set in that layout, see tests/bench/datasets.py

What the models make of a text is kept in target/bench/remembered.sqlite, so that only the first run takes minutes. There is
no deadline here and nothing is timed: `make bench-quality` and `make bench-latency` go through a server.

A constant that was fitted to the questions it is judged on says little. `--choose` takes, for each dialogue, the setting
that is best on all others (by R@10 + MRR) and reports what it reaches on the one left out: the figure to expect elsewhere.

Writes target/bench/ablation.json.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lightmem_server.config import load
from lightmem_server.core import Engine
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.retrieval import Budget, RetrieveQuery, Selected, SelectorMode
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.pipeline.tuning import JudgedLimits, Tuning
from lightmem_server.pipeline.write import WriteBatch, Writing
from lightmem_server.slm.embedder import load_embedder
from lightmem_server.slm.selector import load_selector
from lightmem_server.slm.time_window import to_micros
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Partition, Role, Turn
from tests.bench import report
from tests.bench.datasets import Conversation, DataError, read_jsonl, read_locomo, take_quick
from tests.bench.memo import Memory, RememberingEmbedder, RememberingSelector

ROOT = Path(__file__).parents[2]
RESULT_FILE = ROOT / "target" / "bench" / "ablation.json"
MEMORY_FILE = ROOT / "target" / "bench" / "remembered.sqlite"
DEFAULT_DATA = ROOT.parent / "shared" / "data" / "locomo10.json"

READERS = {"locomo": read_locomo, "jsonl": read_jsonl}
QUICK_QUESTIONS = 8
TURNS_PER_WRITE = 100
BUDGET = Budget(max_memories=10, max_candidates=32, max_tokens=32_768, deadline_seconds=1e9)

DEFAULT = Tuning()
VARIANTS: Mapping[str, tuple[Tuning, SelectorMode]] = {
    "all parts, FAST": (DEFAULT, SelectorMode.FAST),
    "all parts, FULL": (DEFAULT, SelectorMode.FULL),
    "the Selector reads two": (replace(DEFAULT, fast=JudgedLimits(512, 2, 2)), SelectorMode.FAST),
    "the Selector reads four": (replace(DEFAULT, fast=JudgedLimits(512, 4, 4)), SelectorMode.FAST),
    "without the Selector (OFF)": (DEFAULT, SelectorMode.OFF),
    "without the question view": (
        replace(DEFAULT, dense_weights=(0.0, 1.0), lexical_weights=(0.0, 1.0)),
        SelectorMode.FAST,
    ),
    "without the window view": (
        replace(DEFAULT, dense_weights=(1.0, 0.0), lexical_weights=(1.0, 0.0)),
        SelectorMode.FAST,
    ),
    "without vectors": (replace(DEFAULT, dense_weights=(0.0, 0.0)), SelectorMode.FAST),
    "without words (BM25)": (replace(DEFAULT, lexical_weights=(0.0, 0.0)), SelectorMode.FAST),
    "without the session's words": (replace(DEFAULT, session_weight=0.0), SelectorMode.FAST),
    "without named speakers": (replace(DEFAULT, speaker_boost=0.0), SelectorMode.FAST),
    "without time windows": (replace(DEFAULT, time_boost=0.0), SelectorMode.FAST),
    "without preferring times for when": (replace(DEFAULT, time_expression_boost=0.0), SelectorMode.FAST),
    "without informativeness": (replace(DEFAULT, prior_weight=0.0), SelectorMode.FAST),
    "without the second pass": (replace(DEFAULT, follow_up_hits=0), SelectorMode.FAST),
    "judged ones keep the question view": (replace(DEFAULT, judged_question_weight=1.0), SelectorMode.FAST),
}
"""Name to constants and mode; the first is what the others are compared with."""

CHOICES: Sequence[Tuning] = [
    replace(DEFAULT, logit_weight=logit, session_weight=session, prior_weight=prior, time_expression_boost=times)
    for logit, session, prior, times in itertools.product((0.1, 0.2, 0.3), (0.5, 1.0), (0.25, 0.5), (0.25, 0.75))
]


@dataclass(frozen=True, slots=True)
class Figures:
    """Averages over some questions."""

    recall_at_10: float
    mrr: float
    questions: int


class Bench:
    """The pipeline over conversations that it was told."""

    def __init__(
        self,
        retrieving: Callable[[Tuning], Retrieving],
        conversations: Sequence[Conversation],
        turns: Mapping[str, str],
    ) -> None:
        """`turns` maps memory ids to turn ids."""
        self._retrieving = retrieving
        self._conversations = conversations
        self._turns = turns

    async def ask(self, tuning: Tuning, mode: SelectorMode, bars: Progress, name: str) -> dict[str, list[list[float]]]:
        """Per conversation each question's [R@10, reciprocal rank]."""
        retrieving = self._retrieving(tuning)
        task = bars.add_task(name, total=sum(len(conversation.questions) for conversation in self._conversations))
        outcomes: dict[str, list[list[float]]] = {}
        for conversation in self._conversations:
            partition = Partition("default", conversation.conversation_id)
            of_this = outcomes[conversation.conversation_id] = []
            for question in conversation.questions:
                query = RetrieveQuery(
                    partition,
                    question.text,
                    BUDGET,
                    asked_at=to_micros(conversation.asked_at),
                    arrived_at=time.monotonic(),
                    selector_mode=mode,
                )
                ranking: list[str] = []
                async for part in retrieving.retrieve(query):
                    if isinstance(part, Selected):
                        ranking = [self._turns.get(str(c.memory_id), "") for c in part.candidates]
                of_this.append(
                    [
                        report.recall(ranking, question.evidence, 10),
                        report.reciprocal_rank(ranking, question.evidence),
                    ]
                )
                bars.advance(task)
        return outcomes


@asynccontextmanager
async def told(conversations: Sequence[Conversation], memory: Memory, bars: Progress) -> AsyncIterator[Bench]:
    """A bench whose pipeline has been told the conversations, one user each."""
    settings, clock = load(), Clock()
    real_embedder = load_embedder(settings.models_dir, settings.embedder)
    real_selector = load_selector(settings.models_dir, settings.selector)
    embedder, selector = RememberingEmbedder(real_embedder, memory), RememberingSelector(real_selector, memory)
    with tempfile.TemporaryDirectory(prefix="lightmem-ablation-") as folder, ThreadPoolExecutor(2) as executor:
        store = SqliteStore(Path(folder))
        await store.open()
        engine = Engine(
            dim=embedder.dim,
            view_names=VIEW_NAMES,
            budget_bytes=1 << 33,
            stm_turns=settings.stm_turns,
            stm_tokens=settings.stm_tokens,
        )
        residents = Residents(store, engine, executor, embedding="bench")
        writing = Writing(store, residents, embedder, embedding="bench", clock=clock)
        turns: dict[str, str] = {}
        task = bars.add_task("telling", total=sum(1 for conversation in conversations for _ in conversation.turns))
        for conversation in conversations:
            partition = Partition("default", conversation.conversation_id)
            for session in conversation.sessions:
                said = [
                    Turn(turn.text, to_micros(turn.occurred_at), turn.speaker, Role(turn.role))
                    for turn in session.turns
                ]
                batches = [
                    WriteBatch(partition, said[start : start + TURNS_PER_WRITE], session_id=session.session_id)
                    for start in range(0, len(said), TURNS_PER_WRITE)
                ]
                written = [id_ async for ack in writing.write(batches) for id_ in ack.memory_ids]
                turns |= {str(id_): turn.turn_id for id_, turn in zip(written, session.turns, strict=True)}
                bars.advance(task, len(said))

        def retrieving(tuning: Tuning) -> Retrieving:
            counters = {"": embedder.tokens}
            return Retrieving(store, residents, embedder, selector, tokenizers=counters, clock=clock, tuning=tuning)

        try:
            yield Bench(retrieving, conversations, turns)
        finally:
            await store.close()
            await real_embedder.close()
            await real_selector.close()


def average(outcomes: Mapping[str, Sequence[Sequence[float]]]) -> Figures:
    """Over all questions of some conversations.

    >>> average({"a": [[1.0, 0.5]], "b": [[0.0, 0.0], [0.5, 1.0]]})
    Figures(recall_at_10=0.5, mrr=0.5, questions=3)
    """
    pairs = [pair for of_one in outcomes.values() for pair in of_one]
    count = max(1, len(pairs))
    return Figures(
        math.fsum(pair[0] for pair in pairs) / count, math.fsum(pair[1] for pair in pairs) / count, len(pairs)
    )


def choose(outcomes: Sequence[Mapping[str, Sequence[Sequence[float]]]]) -> dict[str, int]:
    """For each conversation the number of the setting that is best on all the others.

    >>> choose([{"a": [[1.0, 1.0]], "b": [[0.0, 0.0]]}, {"a": [[0.0, 0.0]], "b": [[0.9, 0.9]]}])
    {'a': 1, 'b': 0}
    """
    chosen = {}
    for left_out in outcomes[0]:
        others = [{name: of_one for name, of_one in made.items() if name != left_out} for made in outcomes]
        scores = [average(other).recall_at_10 + average(other).mrr for other in others]
        chosen[left_out] = scores.index(max(scores))
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="file, or folder with --layout jsonl")
    parser.add_argument("--layout", choices=sorted(READERS), default="locomo", help="default: locomo")
    parser.add_argument("--choose", action="store_true", help="choose constants by leaving one dialogue out")
    parser.add_argument("--quick", action="store_true", help="one conversation, few questions; judges nothing")
    options = parser.parse_args(arguments)
    if not options.data.exists():
        print(f"SKIPPED: there is no data at {options.data}; name it with --data PATH", file=sys.stderr)
        return 0
    try:
        conversations = READERS[options.layout](options.data)
    except (DataError, OSError) as error:
        print(f"the data cannot be read: {error}", file=sys.stderr)
        return 2
    if options.quick:
        conversations = take_quick(conversations, QUICK_QUESTIONS)
    memory = Memory(MEMORY_FILE)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as bars:
            figures = asyncio.run(_run(conversations, memory, bars, is_choosing=options.choose))
    finally:
        memory.close()
    result = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {"data": options.data.name, "layout": options.layout, "choose": options.choose},
        "figures": figures,
        "targets": {},
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    _print(figures)
    return 0


async def _run(
    conversations: Sequence[Conversation], memory: Memory, bars: Progress, *, is_choosing: bool
) -> dict[str, Any]:
    async with told(conversations, memory, bars) as bench:
        if is_choosing:
            made = [
                await bench.ask(tuning, SelectorMode.FAST, bars, f"setting {i + 1} of {len(CHOICES)}")
                for i, tuning in enumerate(CHOICES)
            ]
            chosen = choose(made)
            left_out = {name: made[number][name] for name, number in chosen.items()}
            averages = [average(outcomes) for outcomes in made]
            ordered = sorted(averages, key=lambda figures: figures.recall_at_10 + figures.mrr)
            default = average(await bench.ask(DEFAULT, SelectorMode.FAST, bars, "defaults"))
            return {
                "chosen on the others": _row(average(left_out), left_out),
                "defaults": {"recall_at_10": default.recall_at_10, "mrr": default.mrr},
                "best of all settings": {"recall_at_10": ordered[-1].recall_at_10, "mrr": ordered[-1].mrr},
                "worst of all settings": {"recall_at_10": ordered[0].recall_at_10, "mrr": ordered[0].mrr},
            }
        rows: dict[str, Any] = {}
        whole: dict[str, list[list[float]]] | None = None
        for name, (tuning, mode) in VARIANTS.items():
            outcomes = await bench.ask(tuning, mode, bars, name)
            whole = whole or outcomes
            rows[name] = _row(average(outcomes), outcomes, against=whole)
        return rows


def _row(
    figures: Figures,
    outcomes: Mapping[str, Sequence[Sequence[float]]],
    *,
    against: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> dict[str, Any]:
    """A variant's averages, and how its conversations scatter: each one's figure, or its difference to `against`."""
    scatter = []
    for name, of_one in outcomes.items():
        own = average({name: of_one})
        base = Figures(0.0, 0.0, 0) if against is None else average({name: against[name]})
        scatter.append((own.recall_at_10 - base.recall_at_10, own.mrr - base.mrr))
    total = None if against is None else average(against)
    return {
        "recall_at_10": figures.recall_at_10,
        "mrr": figures.mrr,
        "questions": figures.questions,
        "recall_at_10_change": None if total is None else figures.recall_at_10 - total.recall_at_10,
        "mrr_change": None if total is None else figures.mrr - total.mrr,
        "recall_at_10_range": [min(pair[0] for pair in scatter), max(pair[0] for pair in scatter)],
        "mrr_range": [min(pair[1] for pair in scatter), max(pair[1] for pair in scatter)],
    }


def _print(figures: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("R@10", "MRR", "R@10 change", "MRR change", "R@10 by dialogue", "MRR by dialogue"):
        table.add_column(heading, justify="right")
    for name, row in figures.items():
        changes = [row.get("recall_at_10_change"), row.get("mrr_change")]
        ranges = [row.get("recall_at_10_range"), row.get("mrr_range")]
        table.add_row(
            name,
            f"{row['recall_at_10']:.4f}",
            f"{row['mrr']:.4f}",
            *("" if change is None else f"{change:+.4f}" for change in changes),
            *("" if span is None else f"{span[0]:+.3f} to {span[1]:+.3f}" for span in ranges),
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    sys.exit(main())
