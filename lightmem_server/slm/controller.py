"""The Controller: from a query, the running conversation and the clock, a plan of what to search for.

Deterministic and quick (under 3 ms): no model is asked. It plans, it never answers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo

from lightmem_server.slm.time_window import TimeWindow, find_time_window
from lightmem_server.types import Memory, Role

COMPLETION_TURNS = 2
"""How many of the last turns complete a query that doesn't stand alone."""

COMPLETION_CHARACTERS = 400
"""How much of each of them."""

COMPLETED_WEIGHT = 0.5
"""Weight of the completed wording beside the query as it was asked."""

STANDALONE_WORDS = 4
"""A query with fewer words is taken to need its conversation."""

MAX_WORDS = 64
"""How many words of a query are looked at for names."""

_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]{2,})*")

_REFERS_BACK = re.compile(
    r"^\s*(?:and|but|so|also|then|what about|how about)\b"
    r"|\b(?:he|him|his|she|her|hers|they|them|their|theirs|it|its|this|that|these|those|there|then|one|ones|else|same)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class QueryView:
    """One wording of the need, with its weight in the fusion; a plan's weights sum to 1."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to search for.

    Attributes:
        views: Wordings; the first is the query as it was asked.
        judged: The wording that the Selector reads.
        names: Words of the query that may be somebody's name.
        window: The time that the query speaks of.
    """

    views: tuple[QueryView, ...]
    judged: str
    names: tuple[str, ...]
    window: TimeWindow | None


def make_plan(query: str, conversation: Sequence[Memory], asked_at: int, zone: tzinfo = UTC) -> Plan:
    """Plan a retrieval.

    Args:
        query: The need, in words.
        conversation: The session's running conversation (STM), oldest first; may be empty.
        asked_at: Microseconds; what "yesterday" is relative to.
        zone: The user's time zone.
    """
    views: tuple[QueryView, ...] = (QueryView(query, 1.0),)
    judged = query
    if conversation and needs_conversation(query):
        judged = complete_query(query, conversation)
        views = (QueryView(query, 1 - COMPLETED_WEIGHT), QueryView(judged, COMPLETED_WEIGHT))
    return Plan(views, judged, find_names(query), find_time_window(query, asked_at, zone))


def find_names(query: str) -> tuple[str, ...]:
    """Words, and pairs of words, that may be a speaker's name: as they stand, and capitalised where they are not.

    Which of them are names is for the partition to say: it knows who spoke.
    """
    words = _WORD.findall(query)[:MAX_WORDS]
    pairs = [f"{first} {second}" for first, second in itertools.pairwise(words)]
    return tuple(dict.fromkeys(form for name in (*words, *pairs) for form in (name, name.title())))


def needs_conversation(query: str) -> bool:
    """Whether a query refers back to what was said: "and her sister?" does, "Where does Ana live?" does not."""
    return len(query.split()) < STANDALONE_WORDS or _REFERS_BACK.search(query) is not None


def complete_query(query: str, conversation: Sequence[Memory]) -> str:
    """The query made self-contained: the last turns before it say whom and what it speaks of."""
    turns = [
        turn for turn in conversation if turn.role in (Role.USER, Role.ASSISTANT) and turn.text.strip() != query.strip()
    ]
    topic = " ".join(turn.text[:COMPLETION_CHARACTERS] for turn in turns[-COMPLETION_TURNS:])
    return f"{topic} {query}" if topic else query
