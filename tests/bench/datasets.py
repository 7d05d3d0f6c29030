"""Dialogue data sets with questions whose evidence is known turn by turn, in one shape.

`read_locomo` reads LoCoMo (locomo10.json), `read_jsonl` any set in the layout conversations.jsonl/questions.jsonl.
Nothing of LoCoMo may be copied into this repository: its licence is CC BY-NC 4.0.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lightmem_client import Role

SECONDS_BETWEEN_TURNS = 5
ASKED_AFTER = timedelta(days=1)
"""Questions are asked a day after the last session began."""

CONVERSATIONS_FILE = "conversations.jsonl"
QUESTIONS_FILE = "questions.jsonl"

LOCOMO_TIME = "%I:%M %p on %d %B, %Y"
LOCOMO_SESSION = re.compile(r"session_(\d+)")


class DataError(ValueError):
    """The data is not in the layout that it should be in."""


@dataclass(frozen=True, slots=True)
class DialogueTurn:
    """One turn; its id is unique in its conversation."""

    turn_id: str
    speaker: str
    role: Role
    text: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """Turns that were said in one go."""

    session_id: str
    turns: tuple[DialogueTurn, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the turns that hold its answer, at least one; `answer` is "" where the right one is that there is
    none."""

    question_id: str
    text: str
    category: str
    evidence: frozenset[str]
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The memory of one user, and what is asked of it."""

    conversation_id: str
    sessions: tuple[Session, ...]
    questions: tuple[Question, ...]

    @property
    def turns(self) -> Iterator[DialogueTurn]:
        """All turns in order."""
        return (turn for session in self.sessions for turn in session.turns)

    @property
    def asked_at(self) -> datetime:
        """The moment that the questions are asked at."""
        return max(session.turns[0].occurred_at for session in self.sessions if session.turns) + ASKED_AFTER


def read_locomo(path: Path) -> list[Conversation]:
    """Read LoCoMo. Evidence that names no turn is dropped, questions without evidence are left out.

    Raises:
        DataError: Not LoCoMo.
    """
    try:
        samples = json.loads(path.read_text("utf-8"))
        return [_locomo_conversation(sample) for sample in samples]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not LoCoMo: {error!r}") from error


def _locomo_conversation(sample: dict[str, Any]) -> Conversation:
    dialogue = sample["conversation"]
    numbers = sorted(int(match[1]) for key in dialogue if (match := LOCOMO_SESSION.fullmatch(key)))
    sessions = []
    for number in numbers:
        started_at = datetime.strptime(dialogue[f"session_{number}_date_time"], LOCOMO_TIME).replace(tzinfo=UTC)
        turns = tuple(
            DialogueTurn(turn["dia_id"], turn["speaker"], Role.USER, _locomo_text(turn), said_at(started_at, i))
            for i, turn in enumerate(dialogue[f"session_{number}"])
        )
        sessions.append(Session(f"session_{number}", turns))
    questions = [
        Question(
            f"{sample['sample_id']}/{i}",
            item["question"],
            str(item["category"]),
            frozenset(item["evidence"]),
            str(item.get("answer", "")),
        )
        for i, item in enumerate(sample["qa"])
    ]
    return _checked(Conversation(str(sample["sample_id"]), tuple(sessions), tuple(questions)))


def _locomo_text(turn: dict[str, Any]) -> str:
    caption = turn.get("blip_caption")
    parts = (turn["text"], f"[shares an image: {caption}]" if caption else "")
    return " ".join(part for part in parts if part)


def read_jsonl(folder: Path) -> list[Conversation]:
    """Read a dialogue set in the layout conversations.jsonl/questions.jsonl.

    conversations.jsonl, one a line: {"conversation_id", "speakers", "sessions": [{"session_id", "started_at", "turns":
    [{"turn_id", "speaker", "role", "text"}]}]}. questions.jsonl, one a line: {"question_id", "conversation_id",
    "question", "answer", "category", "evidence": [turn_id]}. A time without zone is UTC.

    Raises:
        DataError: Not in this layout.
    """
    try:
        questions: dict[str, list[Question]] = defaultdict(list)
        for item in _read_lines(folder / QUESTIONS_FILE):
            questions[item["conversation_id"]].append(
                Question(
                    str(item["question_id"]),
                    item["question"],
                    str(item["category"]),
                    frozenset(item["evidence"]),
                    str(item.get("answer") or ""),
                )
            )
        conversations = [
            _jsonl_conversation(item, questions.pop(item["conversation_id"], []))
            for item in _read_lines(folder / CONVERSATIONS_FILE)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder} is not in the layout of a dialogue set: {error!r}") from error
    if questions:
        raise DataError(f"{folder}: questions about unknown conversations: {', '.join(sorted(questions))}")
    return conversations


def _jsonl_conversation(item: dict[str, Any], questions: Iterable[Question]) -> Conversation:
    sessions = []
    for session in item["sessions"]:
        started_at = datetime.fromisoformat(session["started_at"])
        if started_at.utcoffset() is None:
            started_at = started_at.replace(tzinfo=UTC)
        turns = tuple(
            DialogueTurn(
                turn["turn_id"],
                turn["speaker"],
                Role[(turn.get("role") or "user").upper()],
                turn["text"],
                said_at(started_at, i),
            )
            for i, turn in enumerate(session["turns"])
        )
        sessions.append(Session(str(session["session_id"]), turns))
    return _checked(Conversation(str(item["conversation_id"]), tuple(sessions), tuple(questions)))


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def said_at(started_at: datetime, position: int) -> datetime:
    """When a turn was said: the sets tell when sessions began."""
    return started_at + timedelta(seconds=SECONDS_BETWEEN_TURNS * position)


def _checked(conversation: Conversation) -> Conversation:
    """Without evidence that names no turn, and questions that are left without any."""
    ids = [turn.turn_id for turn in conversation.turns]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{conversation.conversation_id}: a turn_id occurs twice")
    if not ids:
        raise ValueError(f"{conversation.conversation_id} has no turns")
    known = frozenset(ids)
    questions = (replace(question, evidence=question.evidence & known) for question in conversation.questions)
    return replace(conversation, questions=tuple(question for question in questions if question.evidence))


def take_sample(conversations: Sequence[Conversation], count: int, *, seed: int) -> list[Conversation]:
    """`count` questions drawn without regard to anything, and the conversations that they are about, whole."""
    drawn = random.Random(seed).sample(
        [question.question_id for conversation in conversations for question in conversation.questions],
        min(count, sum(len(conversation.questions) for conversation in conversations)),
    )
    return _only(conversations, frozenset(drawn))


def take_stratified(conversations: Sequence[Conversation], count: int, *, seed: int) -> list[Conversation]:
    """As take_sample, each category with the share that it has of all questions, to within one question."""
    random_ = random.Random(seed)
    by_category: dict[str, list[str]] = defaultdict(list)
    for conversation in conversations:
        for question in conversation.questions:
            by_category[question.category].append(question.question_id)
    total = sum(map(len, by_category.values()))
    exact = {category: min(count, total) * len(ids) / total for category, ids in sorted(by_category.items())}
    sizes = {category: int(share) for category, share in exact.items()}
    for category in sorted(exact, key=lambda one: sizes[one] - exact[one])[: min(count, total) - sum(sizes.values())]:
        sizes[category] += 1
    drawn = [id_ for category, size in sizes.items() for id_ in random_.sample(by_category[category], size)]
    return _only(conversations, frozenset(drawn))


def take_quick(conversations: Sequence[Conversation], count: int) -> list[Conversation]:
    """The shortest conversation that has questions, and `count` of them, evenly spread."""
    asked = [conversation for conversation in conversations if conversation.questions]
    shortest = min(asked, key=lambda conversation: sum(1 for _ in conversation.turns))
    step = max(1, len(shortest.questions) // count)
    chosen = shortest.questions[::step][:count]
    return [replace(shortest, questions=chosen)]


def _only(conversations: Iterable[Conversation], question_ids: frozenset[str]) -> list[Conversation]:
    reduced = (
        replace(
            conversation,
            questions=tuple(question for question in conversation.questions if question.question_id in question_ids),
        )
        for conversation in conversations
    )
    return [conversation for conversation in reduced if conversation.questions]


def digest(path: Path) -> str:
    """The sha256 of a data set's bytes, for the report."""
    files = [path] if path.is_file() else sorted(path.glob("*.json*"))
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
