"""The sets of questions, and their passages as the Selector will read them.

A file holds one JSON object a line, gzipped: {"question_id", "group", "question", "candidates": [text, ...], "positives":
[position, ...]}. The candidates are the sentences of one text or the turns of one dialogue, in order; without a positive
the question has no answer among them. Questions of one group share their text: sets are parted by group.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.judged_text import MARK, judged_text, last_question, said

FRIENDSQA, FRIENDSQA_LONGER = "friendsqa", "friendsqa_longer"
"""Questions about scenes; of the second the turns are joined to longer ones (longer.py)."""

DIALOGUES = frozenset({FRIENDSQA, "molweni"})
"""Sets whose candidates are turns, each "Speaker: text"."""

HELD_OUT_SEASONS = frozenset({"s03", "s08"})
"""Of FriendsQA: whole seasons, which are users to the benches (tests/bench/friendsqa.py)."""

PARTS = 10


class Part(StrEnum):
    """What a group is used for."""

    TRAIN = "train"
    TUNE = "tune"
    """To choose and to calibrate by."""
    TEST = "test"
    """To report."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question over one text.

    Attributes:
        passages: As they are judged.
        positives: Positions of those that answer it.
        uncertain: Positions of those that may: no list has them.
    """

    set_name: str
    group: str
    part: Part
    question_id: str
    question: str
    passages: tuple[str, ...]
    positives: frozenset[int]
    uncertain: frozenset[int] = frozenset()

    @property
    def corpus(self) -> str:
        """Where its hard negatives are looked for: a season of FriendsQA, a group of another set."""
        return f"{self.set_name}/{season(self.group) if self.set_name in (FRIENDSQA, FRIENDSQA_LONGER) else self.group}"


def season(group: str) -> str:
    """Of a scene of FriendsQA, such as s01_e23_c06."""
    return group.partition("_")[0]


def part_of(set_name: str, group: str) -> Part:
    """What a group is used for; the same in every run.

    A tenth is held out to report on and a twentieth to tune by; of FriendsQA two whole seasons to report on.
    """
    if set_name == FRIENDSQA and season(group) in HELD_OUT_SEASONS:
        return Part.TEST
    number = zlib.crc32(f"{set_name}/{group}".encode()) % (2 * PARTS)
    if number == 0:
        return Part.TUNE
    return Part.TEST if number in (1, 2) and set_name != FRIENDSQA else Part.TRAIN


def read_sets(folder: Path) -> Iterator[Asked]:
    """Every question of every *.jsonl.gz in a folder, set by set.

    Raises:
        InvalidInputError: No such file, or a line that isn't of this form.
    """
    paths = sorted(folder.glob("*.jsonl.gz"))
    if not paths:
        raise InvalidInputError("data", f"{folder} holds no *.jsonl.gz")
    for path in paths:
        name = path.name.removesuffix(".jsonl.gz")
        try:
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                yield from (_read(name, json.loads(line)) for line in lines)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InvalidInputError("data", f"{path.name} is no set of questions: {error!r}") from error


def _read(name: str, item: dict[str, object]) -> Asked:
    candidates = [str(candidate) for candidate in item["candidates"]]  # type: ignore[attr-defined]
    group = str(item["group"])
    return Asked(
        set_name=name,
        group=group,
        part=part_of(name, group),
        question_id=str(item["question_id"]),
        question=str(item["question"]).strip(),
        passages=tuple(dialogue_passages(candidates) if name in DIALOGUES else candidates),
        positives=frozenset(item["positives"]),  # type: ignore[call-overload]
    )


def dialogue_passages(turns: Sequence[str]) -> Iterator[str]:
    """Turns, each "Speaker: text", as they are judged: behind the last question of the one before."""
    asked = ""
    for turn in turns:
        yield judged_text(turn, asked)
        speaker, _, text = turn.partition(": ")
        question = last_question(text)
        asked = said(speaker, question) if question else ""


def bare(passage: str) -> str:
    """A passage without the question before it."""
    return passage.rpartition(f" {MARK} ")[2]
