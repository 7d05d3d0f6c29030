"""Packs memories into a text for a prompt: chronological, dated, with speakers, never over its token budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta, tzinfo

from lightmem_server.pipeline.passages import turn_passage
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.slm.protocols import TokenCounter
from lightmem_server.slm.time_window import EPOCH, MICROSECOND
from lightmem_server.types import Memory


def pack(
    candidates: Iterable[Candidate], counter: TokenCounter, *, max_tokens: int, zone: tzinfo
) -> tuple[list[Candidate], str, int]:
    """Take candidates, best first, while their lines fit; those that don't are marked MAX_TOKENS.

    A long line that doesn't fit doesn't keep shorter ones behind it from fitting.

    Returns:
        The candidates taken, best first, their text, and its exact token count, at most `max_tokens`.
    """
    taken: list[Candidate] = []
    token_count = 0
    for candidate in candidates:
        assert candidate.memory is not None, "the fetch stage dropped what it did not find"
        candidate.token_count = counter.count(line(candidate.memory, zone) + "\n")
        if token_count + candidate.token_count > max_tokens:
            candidate.drop_reason = DropReason.MAX_TOKENS
            continue
        taken.append(candidate)
        token_count += candidate.token_count
    text = _join(taken, zone)
    # Tokenizers may join across lines in ways that add tokens: the count of the whole decides.
    while taken and (token_count := counter.count(text)) > max_tokens:
        taken.pop().drop_reason = DropReason.MAX_TOKENS
        text = _join(taken, zone)
    return taken, text, token_count if taken else 0


def line(memory: Memory, zone: tzinfo) -> str:
    """One memory as one line: `2023-05-08 13:56 Ana: I moved to Lisbon.` in the user's time zone."""
    try:
        moment = (EPOCH + timedelta(microseconds=memory.occurred_at)).astimezone(zone)
    except OverflowError:  # the first and last day of the calendar, in another zone
        moment = EPOCH + memory.occurred_at * MICROSECOND
    return f"{moment:%Y-%m-%d %H:%M} {' '.join(turn_passage(memory).split())}"


def _join(candidates: Sequence[Candidate], zone: tzinfo) -> str:
    memories = [candidate.memory for candidate in candidates if candidate.memory is not None]
    memories.sort(key=lambda memory: (memory.occurred_at, memory.created_at, memory.id))
    return "\n".join(line(memory, zone) for memory in memories)
