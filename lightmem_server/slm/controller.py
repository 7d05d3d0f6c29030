"""The Controller: from a query, the running conversation and the clock, a plan of what to search for.

Deterministic and quick (under 3 ms): no model is asked. It plans, it never answers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import IntEnum

from lightmem_server.slm.asker import name_asker
from lightmem_server.slm.time_window import TimeWindow, find_time_window
from lightmem_server.types import Memory, Role

COMPLETION_TURNS = 2
"""How many of the last turns complete a query that doesn't stand alone."""

COMPLETION_CHARACTERS = 400
"""How much of each of them."""

COMPLETED_WEIGHT = 0.5
"""Weight of the completed wording beside the query as it was asked."""

NAMED_WEIGHT = 0.5
"""Weight of the wording with the asker's name in place of "I", beside the query as it was asked: facts have the name, and
turns the word."""

STANDALONE_WORDS = 4
"""A query with fewer words is taken to need its conversation."""

MAX_WORDS = 64
"""How many words of a query are looked at for names."""

MAX_CHARACTERS = 1000
"""How much of a query is looked at for what it asks: a pasted document shouldn't be read whole for that."""

_NAME = re.compile(r"(?<!^)(?<![.!?:]\s)\b[A-Z][^\W\d_]+")
"""A capitalised word that doesn't begin a sentence."""

_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]{2,})*")

_REFERS_BACK = re.compile(
    r"^\s*(?:and|but|so|also|then|what about|how about)\b"
    r"|\b(?:he|him|his|she|her|hers|they|them|their|theirs|it|its|this|that|these|those|there|then|one|ones|else|same)\b",
    re.IGNORECASE,
)


_ASKS_WHEN = re.compile(
    r"^\W*(?:and\s+|so\s+)?when\b"
    r"|\b(?:know|remember|recall|remind\s+me|tell\s+me|say)\s+when\b"
    r"|\b(?:what|which)\s+(?:date|day|weekday|weekend|week|month|season|year|time)\b"
    r"|\bhow\s+(?:long|recently)\b|\bhow\s+many\s+(?:days|weeks|months|years)\b",
    re.IGNORECASE,
)

_PLURAL = r"(?:(?!(?:does|was|has|is|his|this|its|as)\b)[a-z-]+(?:[^siu\W]s|ies)|people|children|women|men)"

_ASKS_FOR_SEVERAL = re.compile(
    r"\b(?:what|which)\s+(?:all\b|are\b|were\b|have\b|has\b(?!\s+(?:been|happened))"
    rf"|(?:(?:kinds?|types?|sorts?|other|different|new|some|of|the|two|three|four|five)\s+)*{_PLURAL}\b)"
    r"|\bhow\s+many\b(?!\s+(?:days|weeks|months|years)\b)|\bin\s+(?:what|which)\s+ways\b|\bwho\s+all\b"
    r"|\b(?:list|name|enumerate)\s+(?:all|the|some|every|two|three|four|five|what)\b"
    r"|\b(?:everything|every\s+time|all\s+(?:of\s+)?(?:the|my|his|her|their|our|your))\b",
    re.IGNORECASE,
)

_JOINS_SEVERAL = re.compile(
    r"\b(?:both|in\s+common|compared?\s+(?:to|with)|similar(?:ities)?|differen(?:t|ces?)\s+(?:from|between))\b",
    re.IGNORECASE,
)

_ASKS_BROADLY = re.compile(
    r"\b(?:tell|remind)\s+me\s+(?:\w+\s+)?about\b|\bwhat\s+do\s+(?:you|we)\s+know\s+(?:about|of)\b|\bsummar(?:y|ise|ize)\b"
    r"|\b(?:overview|catch\s+me\s+up|bring\s+me\s+up\s+to\s+date|recap)\b|\bwhat(?:'s|\u2019s|\s+is|\s+has)\s+been\s+(?:going\s+on|happening|up)\b"
    r"|\bwhat\s+happened\s+(?:lately|recently|last|this|in|on|since|so\s+far)\b|\bwhat\s+did\s+(?:i|we|you)\s+(?:talk|speak|chat)\s+about\b"
    r"|\bwho\s+is\s+[A-Z]\w+\W*$|\bhow\s+(?:is|are|was|were|has|have)\s+.{0,40}\b(?:doing|been|going)\b",
    re.IGNORECASE,
)

_HAPPENED = re.compile(
    r"\b(?:did|was|were|had|happened|went|said|told|yesterday|ago|recently|lately|first\s+time|last\s+time|last)\b",
    re.IGNORECASE,
)

_ABOUT_SOMEBODY = re.compile(
    r"\b(?:i|me|my|mine|we|us|our|ours|you|your|yours|he|him|his|she|her|hers|they|them|their|theirs)\b", re.IGNORECASE
)

_SPEAKS_OF_SPEAKING = re.compile(
    r"\b(?:(?:i|we|you)\s+(?:\w+\s+)?(?:say|said|tell|told|mention|mentioned|talk|talked|discuss|discussed|chat|chatted"
    r"|ask|asked|speak|spoke|bring\s+up|brought\s+up)|our\s+(?:last\s+)?(?:conversation|chat|talk|discussion|session))\b",
    re.IGNORECASE,
)


class Need(IntEnum):
    """What kind of memory answers."""

    EPISODE = 1
    """Something that happened, or was said, at some time."""
    KNOWLEDGE = 2
    """Something that is so: a preference, a relation, a habit."""


@dataclass(frozen=True, slots=True)
class QueryView:
    """One wording of the need, with its weight in the fusion; a plan's weights sum to 1."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to search for, and what for.

    Attributes:
        views: Wordings; the first is the query as it was asked.
        judged: The wording that the Selector reads.
        names: Words of the query that may be somebody's name.
        window: The time that the query speaks of.
        need: What kind of memory answers.
        is_personal: Whether it is about somebody, rather than about the world.
        is_list: Whether several memories are asked for: their evidence should differ.
        is_multi_hop: Whether several memories have to be joined for an answer: what the first hits speak of is followed.
        is_broad: Whether a summary answers better than a single turn: "Tell me about Ana's spring".
        asks_when: Whether a time is asked for.
        is_window_explicit: Whether the window is the time at which something was said, so that it restricts the search;
            else it is when something happened, which is often told later, and only favours.
    """

    views: tuple[QueryView, ...]
    judged: str
    names: tuple[str, ...]
    window: TimeWindow | None
    need: Need
    is_personal: bool
    is_list: bool
    is_multi_hop: bool
    is_broad: bool
    asks_when: bool
    is_window_explicit: bool


def make_plan(
    query: str, conversation: Sequence[Memory], asked_at: int, zone: tzinfo = UTC, *, asker: str = ""
) -> Plan:
    """Plan a retrieval.

    Args:
        query: The need, in words.
        conversation: The session's running conversation (STM), oldest first; may be empty.
        asked_at: Microseconds; what "yesterday" is relative to.
        zone: The user's time zone.
        asker: Whom "I" means in the query; "": unknown.
    """
    views: tuple[QueryView, ...] = (QueryView(query, 1.0),)
    judged = whose = name_asker(query, asker) if asker else query
    if conversation and needs_conversation(query):
        judged = complete_query(whose, conversation)
        views = (QueryView(query, 1 - COMPLETED_WEIGHT), QueryView(judged, COMPLETED_WEIGHT))
    elif whose != query:
        views = (QueryView(query, 1 - NAMED_WEIGHT), QueryView(whose, NAMED_WEIGHT))
    window = find_time_window(query, asked_at, zone)
    start = query[:MAX_CHARACTERS]
    asks_when = _ASKS_WHEN.search(start) is not None
    is_list = not asks_when and _ASKS_FOR_SEVERAL.search(start) is not None
    named = _NAME.findall(start)
    return Plan(
        views=views,
        judged=judged,
        names=find_names(whose),
        window=window,
        need=Need.EPISODE if asks_when or window is not None or _HAPPENED.search(start) else Need.KNOWLEDGE,
        is_personal=bool(named) or _ABOUT_SOMEBODY.search(start) is not None,
        is_list=is_list,
        is_multi_hop=is_list or (not asks_when and _JOINS_SEVERAL.search(start) is not None),
        is_broad=_ASKS_BROADLY.search(start) is not None,
        asks_when=asks_when,
        is_window_explicit=window is not None and _SPEAKS_OF_SPEAKING.search(start) is not None,
    )


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
