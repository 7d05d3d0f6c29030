"""The lists that the student learns from: a question, passages of which some answer it, and which do."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightmem_server.slm.distill import chats, dialogues, facts
from lightmem_server.slm.distill.chats import read_chats, read_joined
from lightmem_server.slm.distill.dialogues import write_dialogues
from lightmem_server.slm.distill.facts import read_with_facts
from lightmem_server.slm.distill.longer import with_longer_turns
from lightmem_server.slm.distill.negatives import find_hard
from lightmem_server.slm.distill.rewriting import rewrite
from lightmem_server.slm.distill.sets import DIALOGUES, FRIENDSQA, FRIENDSQA_LONGER, Asked, Part, bare, read_sets
from lightmem_server.slm.judged_text import judged_text
from lightmem_server.slm.protocols import Embedder

PASSAGES = 12
MOST_POSITIVES = 4
HARD = 7
"""Of the passages, if so many are found; the rest are neighbours of the answer, in its text."""

SHARES = {"squad_dev": 0.45, facts.BESIDE: 0.3}
"""Of a set's questions: most sentences of the first are long, and it is as large as all others together; of the second they are
asked of the same turns without facts."""

REWRITTEN = 0.25
"""Of the questions about a speaker, asked as that one would, or as that one is asked."""

CARRIED_QUESTION = 0.3
"""Of the sentences of texts that answer something: behind another question that they answer, as turns are."""

WRITTEN_DIALOGUES = 320

CONVERSATIONS = DIALOGUES | {
    chats.SET_NAME,
    chats.JOINED,
    dialogues.SET_NAME,
    facts.SET_NAME,
    facts.BESIDE,
    FRIENDSQA_LONGER,
}
"""Sets whose passages have, where there is one, the question before them."""

INCOMPLETE = frozenset({chats.JOINED, facts.SET_NAME})
"""Sets in which more may answer than is known."""


@dataclass(frozen=True, slots=True)
class ReadList:
    """What is read for one question.

    Attributes:
        labels: 1.0 where a passage answers it, else 0.0.
    """

    set_name: str
    part: Part
    question: str
    passages: tuple[str, ...]
    labels: tuple[float, ...]


def read_questions(folder: Path, seed: int) -> Iterator[Asked]:
    """All that is asked: by the sets in a folder, of the dialogues that are written from forms, and of the chats, alone, joined
    and with their facts."""
    yield from read_sets(folder)
    yield from write_dialogues(WRITTEN_DIALOGUES, seed)
    yield from read_chats()
    yield from read_joined()
    yield from read_with_facts()


async def make_lists(asked_of_all: Iterable[Asked], embedder: Embedder, seed: int) -> list[ReadList]:
    """All lists in random order, the same for the same seed: what is drawn for a question depends on nothing but it, so that
    questions that are added leave the lists of the others as they are."""
    questions = [
        asked for asked in asked_of_all if _draws(asked, "share", seed).random() < SHARES.get(asked.set_name, 1.0)
    ]
    questions = [*_with_carried_questions(questions, seed), *_rewritten(questions, seed), *_longer(questions, seed)]
    hard = await find_hard(questions, embedder, 2 * HARD)
    found = sorted(zip(questions, hard, strict=True), key=lambda each: _draws(each[0], "order", seed).random())
    lists = [_make_list(asked, passages, _draws(asked, "passages", seed)) for asked, passages in found]
    return [one for one in lists if len(one.passages) > 1]


def _draws(asked: Asked, what: str, seed: int) -> random.Random:
    return random.Random(f"{seed}/{what}/{asked.set_name}/{asked.question_id}")


def _with_carried_questions(questions: Sequence[Asked], seed: int) -> Iterator[Asked]:
    """Sentences that answer two questions, behind the other one in the list of each."""
    others: dict[str, list[str]] = {}
    for asked in questions:
        if asked.set_name not in CONVERSATIONS:
            for position in asked.positives:
                others.setdefault(asked.passages[position], []).append(asked.question)
    for asked in questions:
        drawn, passages = _draws(asked, "carried", seed), list(asked.passages)
        for position, passage in enumerate(passages):
            known = [question for question in others.get(passage, ()) if question != asked.question]
            if asked.set_name not in CONVERSATIONS and known and drawn.random() < CARRIED_QUESTION:
                passages[position] = judged_text(passage, drawn.choice(known))
        yield replace(asked, passages=tuple(passages))


def _rewritten(questions: Sequence[Asked], seed: int) -> Iterator[Asked]:
    for asked in questions:
        if asked.set_name != FRIENDSQA:
            continue
        drawn = _draws(asked, "rewritten", seed)
        speakers = {bare(passage).partition(": ")[0] for passage in asked.passages}
        names = {name for speaker in speakers if (name := speaker.partition(" ")[0]).isalpha()}
        named = sorted(name for name in names if name in asked.question)
        if not named or drawn.random() >= REWRITTEN * 2:
            continue
        text = rewrite(asked.question, drawn.choice(named), is_first_person=drawn.random() < 0.5)
        if text is not None:
            yield replace(asked, question_id=f"{asked.question_id}/rewritten", question=text)


def _longer(questions: Sequence[Asked], seed: int) -> Iterator[Asked]:
    """The questions of FriendsQA for training once more, over longer turns: there a turn has eleven words, in the chats 27."""
    of_training = [asked for asked in questions if asked.set_name == FRIENDSQA and asked.part is Part.TRAIN]
    return with_longer_turns(of_training, FRIENDSQA_LONGER, seed)


def _make_list(asked: Asked, hard: Sequence[str], drawn: random.Random) -> ReadList:
    positives = [asked.passages[position] for position in sorted(asked.positives)]
    chosen = dict.fromkeys(drawn.sample(positives, min(MOST_POSITIVES, len(positives))), 1.0)
    # Behind another question, or none, it answers too.
    seen = {bare(asked.passages[position]) for position in asked.positives | asked.uncertain}
    near = drawn.sample(asked.passages, len(asked.passages))
    first = len(hard) if asked.set_name == chats.JOINED else HARD  # whose passages are no neighbours of the answer
    for passage in (*hard[:first], *near, *hard[first:]):
        if len(chosen) < PASSAGES and bare(passage) not in seen:
            seen.add(bare(passage))
            chosen[passage] = 0.0
    return ReadList(asked.set_name, asked.part, asked.question, tuple(chosen), tuple(chosen.values()))


def drop_rivals(one: ReadList, scores: NDArray[np.float32]) -> tuple[ReadList, NDArray[np.float32]]:
    """A list of a set in which not all answers are known, and its scores, without passages of which the teacher thinks better
    than of every known one: they may answer too (denoised hard negatives; RocketQA, Qu et al. 2021). Others as they are."""
    labels = np.array(one.labels)
    if one.set_name not in INCOMPLETE:
        return one, scores
    kept = np.flatnonzero((labels > 0) | (scores <= scores[labels > 0].max()))
    passages = tuple(one.passages[index] for index in kept)
    return replace(one, passages=passages, labels=tuple(labels[kept].tolist())), scores[kept]


def save_lists(lists: Sequence[ReadList], path: Path) -> None:
    """Write them, a line each."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(one)) + "\n" for one in lists)


def load_lists(path: Path) -> list[ReadList]:
    """Read what save_lists wrote."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    return [
        ReadList(item["set_name"], Part(item["part"]), item["question"], tuple(item["passages"]), tuple(item["labels"]))
        for item in items
    ]
