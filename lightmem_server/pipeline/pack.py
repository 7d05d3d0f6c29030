"""Packs the conversation and the memories into a text for a prompt, never over its token budget.

Conversation:                       only when the running conversation is part of the answer; its newest turns,
[2023-06-01 Thursday]               in at most half of the tokens
09:12 Ana: Where did I say I'd move to?

Memories:
[2023-05-08 Monday]                 one heading a session and day, in order of time; the lines of one day share it
13:56 Ana: I moved to Lisbon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import groupby

from lightmem_server.pipeline.passages import turn_passage
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.slm.protocols import TokenCounter
from lightmem_server.slm.time_window import EPOCH, MICROSECOND
from lightmem_server.types import Memory

CONVERSATION_SHARE = 0.5
"""Most of the tokens that the running conversation may take: the agent tends to have it anyway."""

CONVERSATION_TITLE = "Conversation:"
MEMORIES_TITLE = "Memories:"


@dataclass(frozen=True, slots=True)
class Packed:
    """What fitted: candidates best first, their text with the conversation's before it, and its exact token count."""

    candidates: list[Candidate]
    text: str
    token_count: int


def pack(
    candidates: Sequence[Candidate],
    counter: TokenCounter,
    *,
    max_tokens: int,
    zone: tzinfo,
    conversation: Sequence[Memory] = (),
) -> Packed:
    """Take the newest turns of the conversation, then candidates, best first, while their lines fit; those that don't
    are marked MAX_TOKENS. A long line that doesn't fit doesn't keep shorter ones behind it from fitting.

    Args:
        conversation: The running conversation, oldest first, to be shown before the memories.
        max_tokens: Most tokens of the whole text, headings included.
    """
    turns = _newest(conversation, counter, int(max_tokens * CONVERSATION_SHARE), zone)
    token_count = counter.count(_join(turns, [], zone))
    taken: list[Candidate] = []
    headings: set[str] = set()
    for candidate in candidates:
        memory = candidate.memory
        assert memory is not None, "the fetch stage dropped what it did not find"
        candidate.token_count = counter.count(line(memory, zone) + "\n")
        heading = f"{memory.session_id}\n{_heading(memory, zone)}"
        cost = candidate.token_count
        if heading not in headings:
            cost += counter.count(_heading(memory, zone) + "\n")
        if turns and not taken:
            cost += counter.count(f"\n\n{MEMORIES_TITLE}\n")
        if token_count + cost > max_tokens:
            candidate.drop_reason = DropReason.MAX_TOKENS
            continue
        headings.add(heading)
        taken.append(candidate)
        token_count += cost
    # Tokenizers may join across lines in ways that add tokens: the count of the whole decides.
    while taken and counter.count(_join(turns, taken, zone)) > max_tokens:
        taken.pop().drop_reason = DropReason.MAX_TOKENS
    text = _join(turns, taken, zone)
    return Packed(taken, text, counter.count(text) if text else 0)


def line(memory: Memory, zone: tzinfo) -> str:
    """One memory as one line: `13:56 Ana: I moved to Lisbon.` in the user's time zone."""
    return f"{_moment(memory, zone):%H:%M} {' '.join(turn_passage(memory).split())}"


def _newest(conversation: Sequence[Memory], counter: TokenCounter, max_tokens: int, zone: tzinfo) -> list[Memory]:
    """The longest end of the conversation that fits."""
    turns: list[Memory] = []
    for turn in reversed(conversation):
        if counter.count(_join([turn, *turns], [], zone)) > max_tokens:
            break
        turns.insert(0, turn)
    return turns


def _join(turns: Sequence[Memory], taken: Sequence[Candidate], zone: tzinfo) -> str:
    memories = sorted(
        (candidate.memory for candidate in taken if candidate.memory is not None),
        key=lambda memory: (memory.occurred_at, memory.created_at, memory.id),
    )
    if not turns:
        return _sections(memories, zone)
    parts = [f"{CONVERSATION_TITLE}\n{_sections(turns, zone)}"]
    if memories:
        parts.append(f"{MEMORIES_TITLE}\n{_sections(memories, zone)}")
    return "\n\n".join(parts)


def _sections(memories: Sequence[Memory], zone: tzinfo) -> str:
    """Lines under a heading per session and day; `memories` in order of time, which sessions and days keep."""
    begins: dict[tuple[str, str], int] = {}
    for memory in memories:
        begins.setdefault((memory.session_id, _heading(memory, zone)), len(begins))
    ordered = sorted(memories, key=lambda memory: begins[memory.session_id, _heading(memory, zone)])
    sections = groupby(ordered, key=lambda memory: (memory.session_id, _heading(memory, zone)))
    return "\n".join(
        "\n".join([heading, *(line(memory, zone) for memory in lines)]) for (_, heading), lines in sections
    )


def _heading(memory: Memory, zone: tzinfo) -> str:
    return f"[{_moment(memory, zone):%Y-%m-%d %A}]"


def _moment(memory: Memory, zone: tzinfo) -> datetime:
    try:
        return (EPOCH + timedelta(microseconds=memory.occurred_at)).astimezone(zone)
    except OverflowError:  # the first and last day of the calendar, in another zone
        return EPOCH + memory.occurred_at * MICROSECOND
