"""FriendsQA (Yang and Choi, SIGDIAL 2019; Apache-2.0): questions about the scenes of a television series, as dialogue sets.

The scenes of a season become the sessions of one user, a day apart, so that each question looks for its evidence among some
five hundred utterances. Reads either form:

- the published one: the folder `dat` of github.com/emorynlp/FriendsQA, with friendsqa_dev.json and friendsqa_tst.json;
- lines of JSON, plain or .gz: {"question_id", "group": scene, "question", "candidates": ["Speaker: utterance", ...],
  "positives": [position, ...]}.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lightmem_client import Role

from tests.bench.datasets import Conversation, DataError, DialogueTurn, Question, Session, said_at

FIRST_SESSION = datetime(2024, 1, 1, 18, tzinfo=UTC)
BETWEEN_SESSIONS = timedelta(days=1)

_SPACED = re.compile(r"\s+(?=[.,!?;:)]|'|n't\b)|(?<=\()\s+|(?<=\b(?:gon|wan|got|can))\s+(?=(?:na|ta|not)\b)")
"""Spaces that the published form has between tokens and people don't write."""


@dataclass(slots=True)
class _Scene:
    said: Sequence[tuple[str, str]] = ()
    questions: list[tuple[str, str, Sequence[int]]] = field(default_factory=list)


def read_friendsqa(path: Path) -> list[Conversation]:
    """Read it, one conversation a season. Questions without evidence are left out.

    Raises:
        DataError: In neither form.
    """
    try:
        scenes = dict(sorted((_read_published(path) if path.is_dir() else _read_lines(path)).items()))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not FriendsQA: {error!r}") from error
    seasons: dict[str, dict[str, _Scene]] = defaultdict(dict)
    for name, scene in scenes.items():
        seasons[name.partition("_")[0]][name] = scene
    if not seasons:
        raise DataError(f"{path} holds no scenes of FriendsQA")
    return [_to_conversation(season, of_season) for season, of_season in seasons.items()]


def _read_lines(path: Path) -> dict[str, _Scene]:
    scenes: dict[str, _Scene] = defaultdict(_Scene)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            scene = scenes[item["group"]]
            spoken = [candidate.partition(": ") for candidate in item["candidates"]]
            scene.said = [(speaker, text) for speaker, _, text in spoken]
            scene.questions.append((item["question_id"], item["question"], item["positives"]))
    return scenes


def _read_published(folder: Path) -> dict[str, _Scene]:
    scenes = {}
    for file in sorted(folder.glob("friendsqa_*.json")):
        for item in json.loads(file.read_text("utf-8"))["data"]:
            (paragraph,) = item["paragraphs"]
            utterances = paragraph["utterances:"]  # the colon is theirs
            said = [(" and ".join(one["speakers"]), _unspace(one["utterance"])) for one in utterances]
            questions = [
                (
                    asked["id"],
                    _unspace(asked["question"]),
                    sorted({answer["utterance_id"] for answer in asked["answers"]}),
                )
                for asked in paragraph["qas"]
            ]
            scenes[item["title"]] = _Scene(said, questions)
    return scenes


def _unspace(text: str) -> str:
    return _SPACED.sub("", text)


def _to_conversation(name: str, scenes: dict[str, _Scene]) -> Conversation:
    sessions = tuple(
        Session(scene, tuple(_turns(scene, scenes[scene], FIRST_SESSION + i * BETWEEN_SESSIONS)))
        for i, scene in enumerate(scenes)
    )
    questions = tuple(
        Question(question_id, text, "", frozenset(f"{name}/{position}" for position in positives))
        for name, scene in scenes.items()
        for question_id, text, positives in scene.questions
        if positives
    )
    return Conversation(name, sessions, questions)


def _turns(name: str, scene: _Scene, started_at: datetime) -> Iterator[DialogueTurn]:
    for position, (speaker, text) in enumerate(scene.said):
        yield DialogueTurn(f"{name}/{position}", speaker, Role.USER, text, said_at(started_at, position))
