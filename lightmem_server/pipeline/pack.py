"""Packs the conversation and the memories into a text for a prompt, never over its token budget.

Conversation:                       only when the running conversation is part of the answer; its newest turns,
[2023-06-01 Thursday]               in at most half of the tokens
09:12 Ana: Where did I say I'd move to?

Known as of:                        only with facts and profiles; the day on which it was said last
8 May 2023 Ana lives in Lisbon

Memories:                           without a title where neither stands before it
[2023-05-08 Monday]                 one heading a session and day, in order of time; the lines of one day share it
13:56 Ana: I moved to Lisbon.

Of users in general:                only with facts of the shared LTM, in what tokens are left
Several users like hiking
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from lightmem_server.pipeline.passages import turn_passage
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.pipeline.room import Room
from lightmem_server.slm.protocols import TokenCounter
from lightmem_server.slm.time_window import EPOCH, MICROSECOND
from lightmem_server.types import Kind, Memory

CONVERSATION_SHARE = 0.5
"""Most of the tokens that the running conversation may take: the agent tends to have it anyway."""

CONVERSATION_TITLE = "Conversation:"
KNOWN_TITLE = "Known as of:"
MEMORIES_TITLE = "Memories:"
SHARED_TITLE = "Of users in general:"

_KNOWN = frozenset([Kind.FACT, Kind.PROFILE])


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
    max_memories: int = sys.maxsize,
    kept_share: float = 0.0,
    conversation: Sequence[Memory] = (),
) -> Packed:
    """Take the newest turns of the conversation, then candidates, best first, while there is room; those without are marked
    MAX_MEMORIES or MAX_TOKENS. A long line that doesn't fit doesn't keep shorter ones behind it from fitting.

    A fact that is covered by a turn is taken where that turn found no room: it stands for it.

    Args:
        candidates: Best first; none dropped, but for facts that are COVERED by a turn before them.
        conversation: The running conversation, oldest first, to be shown before the memories.
        max_tokens: Most tokens of the whole text, headings included.
        max_memories: Most candidates.
        kept_share: Of both, see room.py.
    """
    turns = _newest([_shown(turn, zone) for turn in conversation], counter, int(max_tokens * CONVERSATION_SHARE))
    room = Room(max_tokens - counter.count(_join(turns, [])), max_memories, kept_share)
    covers = {c.memory_id: c.duplicate_of for c in candidates if c.drop_reason is DropReason.COVERED}
    taken: dict[uuid.UUID, _Shown] = {}
    headings: set[tuple[str, str]] = set()
    for is_last in (False, True):
        if is_last:
            room.open()
        for candidate in candidates:
            if candidate.memory_id in taken:
                continue
            if covers.get(candidate.memory_id) in taken:
                candidate.drop_reason = DropReason.COVERED  # also where it was refused before its turn found room
                continue
            assert candidate.memory is not None, "the fetch stage dropped what it did not find"
            shown = _shown(candidate.memory, zone)
            candidate.token_count = cost = counter.count(shown.line + "\n")
            if shown.section not in headings:
                cost += counter.count(shown.heading + "\n")
            if turns and not taken:
                cost += counter.count(f"\n\n{MEMORIES_TITLE}\n")
            candidate.drop_reason = room.take(cost, is_fact=candidate.memory.kind is Kind.FACT)
            if candidate.drop_reason is None:
                headings.add(shown.section)
                taken[candidate.memory_id] = shown
    # Tokenizers may join across lines in ways that add tokens: the count of the whole decides.
    chosen = [candidate for candidate in candidates if candidate.memory_id in taken]
    while (token_count := counter.count(text := _join(turns, list(taken.values())))) > max_tokens and chosen:
        last = chosen.pop()
        last.drop_reason = DropReason.MAX_TOKENS
        del taken[last.memory_id]
    return Packed(chosen, text, token_count if text else 0)


def pack_shared(packed: Packed, shared: Sequence[Candidate], counter: TokenCounter, *, max_tokens: int) -> Packed:
    """Put facts of the shared LTM behind what is packed, best first, while they fit; those that don't are marked MAX_TOKENS. Of
    what was packed before nothing leaves."""
    text, token_count = packed.text, packed.token_count
    taken: list[str] = []
    for candidate in shared:
        assert candidate.memory is not None, "those that are gone were left out"
        told = " ".join(candidate.memory.text.split())
        candidate.token_count = counter.count(told + "\n")
        section = "\n".join([SHARED_TITLE, *taken, told])
        longer = f"{packed.text}\n\n{section}" if packed.text else section
        count = counter.count(longer)
        if count > max_tokens:
            candidate.drop_reason = DropReason.MAX_TOKENS
            continue
        text, token_count = longer, count
        taken.append(told)
    return Packed(packed.candidates, text, token_count)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A memory as it is shown; written once, however often it is counted."""

    memory: Memory
    line: str
    heading: str

    @property
    def section(self) -> tuple[str, str]:
        """What shares a heading."""
        return "" if self.is_known else self.memory.session_id, self.heading

    @property
    def is_known(self) -> bool:
        """Whether it tells what is known, rather than what was said."""
        return self.memory.kind in _KNOWN


def line(memory: Memory, zone: tzinfo) -> str:
    """One memory as one line: `13:56 Ana: I moved to Lisbon.` in the user's time zone."""
    return _shown(memory, zone).line


def _shown(memory: Memory, zone: tzinfo) -> _Shown:
    moment, said = _moment(memory, zone), " ".join(turn_passage(memory).split())
    if memory.kind in _KNOWN:
        return _Shown(memory, f"{moment.day} {moment:%B %Y} {said}", KNOWN_TITLE)
    return _Shown(memory, f"{moment.hour:02d}:{moment.minute:02d} {said}", f"[{moment:%Y-%m-%d %A}]")


def _newest(conversation: Sequence[_Shown], counter: TokenCounter, max_tokens: int) -> list[_Shown]:
    """The longest end of the conversation that fits."""
    turns: list[_Shown] = []
    for turn in reversed(conversation):
        if counter.count(_join([turn, *turns], [])) > max_tokens:
            break
        turns.insert(0, turn)
    return turns


def _join(turns: Sequence[_Shown], taken: Sequence[_Shown]) -> str:
    ordered = sorted(taken, key=lambda shown: (shown.memory.occurred_at, shown.memory.created_at, shown.memory.id))
    known = _sections([shown for shown in ordered if shown.is_known])
    said = _sections([shown for shown in ordered if not shown.is_known])
    before = [f"{CONVERSATION_TITLE}\n{_sections(turns)}"] if turns else []
    before += [known] if known else []
    if said and before:
        said = f"{MEMORIES_TITLE}\n{said}"
    return "\n\n".join([*before, said] if said else before)


def _sections(memories: Sequence[_Shown]) -> str:
    """Lines under a heading per session and day; `memories` in order of time, which sessions and days keep."""
    sections: dict[tuple[str, str], list[str]] = {}
    for shown in memories:
        sections.setdefault(shown.section, [shown.heading]).append(shown.line)
    return "\n".join("\n".join(lines) for lines in sections.values())


def _moment(memory: Memory, zone: tzinfo) -> datetime:
    try:
        return (EPOCH + timedelta(microseconds=memory.occurred_at)).astimezone(zone)
    except OverflowError:  # the first and last day of the calendar, in another zone
        return EPOCH + memory.occurred_at * MICROSECOND
