"""How a memory reads to the models: the one place that decides it, for writing and for retrieving.

Both passage views are indexed by the embedder and by BM25; the Selector reads a memory in the same words. A turn is often
only understood with the one before it (a question and its answer), hence the window. Changing a format changes what is
stored under it: bump FORMAT, which is part of the vectors' identity.
"""

from __future__ import annotations

from lightmem_server.types import Memory, Turn

FORMAT = "1"
"""Version of the passage formats."""

WINDOW_PREVIOUS_CHARACTERS = 600
"""How much of the previous turn the window keeps, from its end: what is answered tends to be said last."""


def turn_passage(turn: Turn | Memory) -> str:
    """View 0: the turn alone, with who said it."""
    return f"{turn.speaker}: {turn.text}" if turn.speaker else turn.text


def window_passage(turn: Turn | Memory, previous: Turn | Memory | None) -> str:
    """View 1: the end of the previous turn of the session, then the turn."""
    if previous is None:
        return turn_passage(turn)
    before = turn_passage(previous)
    if len(before) > WINDOW_PREVIOUS_CHARACTERS:
        before = before[-WINDOW_PREVIOUS_CHARACTERS:].partition(" ")[2] or before[-WINDOW_PREVIOUS_CHARACTERS:]
    return f"{before}\n{turn_passage(turn)}"
