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
from collections.abc import Sequence
from typing import TypeAlias

from lightmem_server.slm.judged_text import judged_text, last_question, said, tail
from lightmem_server.slm.time_window import EPOCH, MICROSECOND
from lightmem_server.types import Memory, Turn

FORMAT = "1"
"""Version of the dense views' formats."""

VIEW_NAMES = ("question", "window")

PRECEDING_TURNS = 2
"""How many turns before a turn take part in its views."""

JUDGED_PRECEDING_TURNS = 1
"""How many of them take part in what the Selector reads."""

Said: TypeAlias = Turn | Memory


def turn_passage(turn: Said) -> str:
    """A turn with who said it."""
    return said(turn.speaker, turn.text)


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
    return judged_text(turn_passage(turn), _last_question(preceding))


def _last_question(preceding: Sequence[Said]) -> str:
    """The last question of the turn before, with who asked; "" when it asked nothing."""
    question = last_question(preceding[-1].text) if preceding else ""
    return said(preceding[-1].speaker, question) if question else ""


def _end(turn: Said) -> str:
    return said(turn.speaker, tail(turn.text))


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
