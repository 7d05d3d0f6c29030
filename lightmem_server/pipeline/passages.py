"""How a memory reads to the models: the one place that decides it, for writing and for retrieving.

A turn is often only understood with what precedes it: "Next Friday!" answers a question. So each turn is indexed in several
passage views. Changing a dense view changes what is stored: bump FORMAT, which is part of the vectors' identity.

    view      embedder                                        BM25
    question  Ben: When do you move? Ana: Next Friday!        the same
    window    Ben: I packed. When do you move? Ana: Next …    the same, with one more turn before it
    session   -                                               Ana: Next Friday! 8 May 2023; all of a session is one document

A whole turn drowns the one that is meant, for the embedder more than for BM25, where common words weigh little; the last
question alone doesn't. What each view is worth stands with its weight, in retrieve.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

from lightmem_server.slm.time_window import EPOCH, MICROSECOND
from lightmem_server.types import Memory, Turn

FORMAT = "1"
"""Version of the dense views' formats."""

VIEW_NAMES = ("question", "window")

PRECEDING_TURNS = 2
"""How many turns before a turn take part in its views."""

JUDGED_PRECEDING_TURNS = 1
"""How many of them take part in what the Selector reads."""

MAX_PRECEDING_CHARACTERS = 600
"""How much of each of them, from its end: what is answered tends to be said last."""

_SENTENCE = re.compile(r"[^.!?\n]*[.!?\n]+|[^.!?\n]+$")

Said: TypeAlias = Turn | Memory


def turn_passage(turn: Said) -> str:
    """A turn with who said it."""
    return f"{turn.speaker}: {turn.text}" if turn.speaker else turn.text


def dense_views(turn: Said, preceding: Sequence[Said]) -> tuple[str, ...]:
    """The texts that are embedded, one per view. `preceding` are the turns before it in its session, oldest first."""
    passage = turn_passage(turn)
    return _join(_last_question(preceding), passage), _join(*(_end(p) for p in preceding[-1:]), passage)


def lexical_views(turn: Said, preceding: Sequence[Said]) -> tuple[str, ...]:
    """The texts that BM25 indexes, one per view."""
    passage = turn_passage(turn)
    return _join(_last_question(preceding), passage), _join(*(_end(p) for p in preceding[-PRECEDING_TURNS:]), passage)


def session_passage(memory: Memory) -> str:
    """What a memory adds to its session's document: itself and the words of its date, which queries use."""
    try:
        date = EPOCH + memory.occurred_at * MICROSECOND
    except OverflowError:
        return turn_passage(memory)
    return f"{turn_passage(memory)} {date.day} {date:%B %Y}"


def informativeness(memory: Memory) -> float:
    """How much a memory is likely to tell, whatever is asked: "Thanks, Mel!" tells nothing, nor does a question.

    The logarithm of its words, less one where it ends by asking.
    """
    return math.log1p(len(memory.text.split())) - memory.text.rstrip().endswith("?")


def judged_passage(turn: Said, preceding: Sequence[Said]) -> str:
    """What the Selector reads: the turn with the question that it may answer. One such reading was worth as much as the
    turn alone and the turn in its window read apart, at half the tokens."""
    return _join(_last_question(preceding), turn_passage(turn))


def _last_question(preceding: Sequence[Said]) -> str:
    """The last question of the turn before, with who asked; "" when it asked nothing."""
    if not preceding:
        return ""
    for sentence in reversed(_SENTENCE.findall(_tail(preceding[-1].text))):
        if sentence.rstrip().endswith("?"):
            return _with_speaker(preceding[-1], sentence.strip())
    return ""


def _end(turn: Said) -> str:
    return _with_speaker(turn, _tail(turn.text))


def _tail(text: str) -> str:
    if len(text) <= MAX_PRECEDING_CHARACTERS:
        return text
    end = text[-MAX_PRECEDING_CHARACTERS:]
    return end.partition(" ")[2] or end


def _with_speaker(turn: Said, text: str) -> str:
    return f"{turn.speaker}: {text}" if turn.speaker else text


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
