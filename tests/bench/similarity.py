"""How alike the embedder finds what says the same, and what doesn't: where near-duplicates begin (pipeline/tuning.py).

    python -m tests.bench.similarity --data FriendsQA/dat       see tests/bench/friendsqa.py

Pairs of turns are embedded as they are stored, in every passage view. What is shown is the cosine in the least alike view
(what the core drops near-duplicates by), and in the mean of the views (what lists are diversified by):

    reworded     an utterance, and it in lower case, without its commas or begun with "Well,", behind the same turn
    changed      an utterance, and it with one name or number another, or with a "not" more, behind the same turn
    paraphrased  a question and its paraphrase (FriendsQA has both), said as turns, each behind a turn of its own
    unlike       two questions about one scene, said as turns, each behind a turn of its own
    evidence     two utterances that are evidence for the same question, where they were said
    speaker      two utterances of one speaker in one scene, where they were said
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lightmem_server.config import load
from lightmem_server.pipeline.passages import VIEW_NAMES, dense_views
from lightmem_server.slm.embedder import load_embedder
from lightmem_server.slm.protocols import Embedder
from lightmem_server.types import Turn
from tests.bench.datasets import Conversation, Question, Session, take_quick
from tests.bench.in_process import MEMORY_FILE
from tests.bench.memo import Memory, RememberingEmbedder
from tests.bench.options import make_parser, parse_options, read_conversations

MOST_PAIRS = 600
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LEAST_WORDS = 5
"""Of an utterance: shorter ones are alike in saying nothing."""

PARAPHRASED = "_Paraphrased"
NOBODY = "Momo"
"""Instead of a name where no other occurs."""

_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+\b")
_NUMBER = re.compile(r"\b\d+\b")
_AUXILIARY = re.compile(r"\b(?:is|are|was|were|can|could|will|would|should|did|does)\b(?! ?not|n't)")

Said: TypeAlias = tuple[Turn, Sequence[Turn]]
"""A turn, and those before it."""

Pair: TypeAlias = tuple[Said, Said]


def make_pairs(conversations: Sequence[Conversation], seed: int = 0) -> dict[str, list[Pair]]:
    """Pairs by the name of their sort, at most MOST_PAIRS of each, drawn with a seed."""
    generator = random.Random(seed)
    everything: dict[str, list[Pair]] = defaultdict(list)
    for conversation in conversations:
        names = sorted({name for turn in conversation.turns for name in _NAME.findall(turn.text)}) or [NOBODY]
        for session in conversation.sessions:
            for said in _said(session):
                everything["reworded"] += [(said, _with_text(said, text)) for text in _reworded(said[0].text)]
                changed = _changed(said[0].text, names, generator)
                everything["changed"] += [(said, _with_text(said, text)) for text in changed]
            by_speaker: dict[str, list[Said]] = defaultdict(list)
            for said in _said(session):
                by_speaker[said[0].speaker].append(said)
            for of_one in by_speaker.values():
                everything["speaker"] += combinations(of_one, 2)
            for name, pairs in _of_questions(session, conversation.questions, generator).items():
                everything[name] += pairs
    return {name: generator.sample(pairs, min(len(pairs), MOST_PAIRS)) for name, pairs in everything.items() if pairs}


def _of_questions(
    session: Session, questions: Sequence[Question], generator: random.Random
) -> dict[str, list[tuple[Said, Said]]]:
    """The pairs that the questions about a scene make: their evidence, and themselves said as turns."""
    turns = _turns(session)
    said_by_id = {turn.turn_id: said for turn, said in zip(session.turns, _said(session, least_words=0), strict=True)}
    asked = {question.question_id: question for question in questions if question.evidence <= said_by_id.keys()}
    plain = [question for id_, question in asked.items() if not id_.endswith(PARAPHRASED)]

    def told(question: Question) -> Said:
        return Turn(question.text, speaker="Ann"), [generator.choice(turns)]

    return {
        "evidence": [
            (said_by_id[a], said_by_id[b]) for question in plain for a, b in combinations(sorted(question.evidence), 2)
        ],
        "paraphrased": [
            (told(question), told(other))
            for question in plain
            if (other := asked.get(question.question_id + PARAPHRASED)) and other.text != question.text
        ],
        "unlike": [(told(one), told(other)) for one, other in pairwise(plain)],
    }


def _turns(session: Session) -> list[Turn]:
    return [Turn(turn.text, speaker=turn.speaker) for turn in session.turns]


def _said(session: Session, *, least_words: int = LEAST_WORDS) -> Iterator[Said]:
    turns = _turns(session)
    for position, turn in enumerate(turns):
        if len(turn.text.split()) >= least_words:
            yield turn, turns[max(0, position - 1) : position]


def _with_text(said: Said, text: str) -> Said:
    return Turn(text, speaker=said[0].speaker), said[1]


def _reworded(text: str) -> Iterator[str]:
    yield text.lower()
    yield f"Well, {text[0].lower()}{text[1:]}"
    if "," in text:
        yield text.replace(",", "")


def _changed(text: str, names: Sequence[str], generator: random.Random) -> Iterator[str]:
    for pattern in (_NAME, _NUMBER):
        if match := pattern.search(text):
            was = match[0]
            other = str(int(was) + 1) if was.isdigit() else generator.choice([n for n in names if n != was] or [NOBODY])
            yield text[: match.start()] + other + text[match.end() :]
    if match := _AUXILIARY.search(text):
        yield f"{text[: match.end()]} not{text[match.end() :]}"


async def cosines(pairs: Sequence[Pair], embedder: Embedder) -> NDArray[np.float32]:
    """(pairs, views)."""
    texts = [text for pair in pairs for turn, preceding in pair for text in dense_views(turn, preceding)]
    vectors = (await embedder.embed_passages(texts)).reshape(len(pairs), 2, -1, embedder.dim)
    found: NDArray[np.float32] = np.einsum("pvd,pvd->pv", vectors[:, 0], vectors[:, 1])
    return found


async def _run(conversations: Sequence[Conversation], memory: Memory) -> dict[str, NDArray[np.float32]]:
    settings = load()
    real = load_embedder(settings.models_dir, settings.embedder)
    embedder = RememberingEmbedder(real, memory)
    try:
        return {name: await cosines(pairs, embedder) for name, pairs in make_pairs(conversations).items()}
    finally:
        await real.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    options = parse_options(make_parser(__doc__, layout="friendsqa", data=None), arguments)
    conversations = read_conversations(options)
    if isinstance(conversations, int):
        return conversations
    if options.quick:
        conversations = take_quick(conversations, 8)
    memory = Memory(MEMORY_FILE)
    try:
        found = asyncio.run(_run(conversations, memory))
    finally:
        memory.close()
    console = Console(width=None if sys.stdout.isatty() else 120)
    reductions: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
        "least alike view": lambda values: values.min(axis=1),
        "mean of the views": lambda values: values.mean(axis=1),
        "question view": lambda values: values[:, VIEW_NAMES.index("question")],
    }
    for title, reduce in reductions.items():
        table = Table(title, "pairs", *(f"{q:.0%}" for q in QUANTILES), box=None, header_style="bold")
        for name, values in found.items():
            quantiles = np.quantile(reduce(values), QUANTILES)
            table.add_row(name, str(len(values)), *(f"{quantile:.3f}" for quantile in quantiles))
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
