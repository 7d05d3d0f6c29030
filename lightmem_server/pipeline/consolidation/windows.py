"""Cuts a session into windows of a few turns: a small Writer reads two or three turns well, and a whole dialogue badly."""

from __future__ import annotations

from collections.abc import Sequence

from lightmem_server.pipeline.consolidation.model import Utterance, Window
from lightmem_server.pipeline.consolidation.words import Sentence

WINDOW_TURNS = 3
CONTEXT_TURNS = 2
WINDOW_CHARACTERS = 2400
"""Of the turns that facts are asked of; a longer turn is a window of its own."""


def cut_windows(
    utterances: Sequence[Utterance],
    *,
    turns: int = WINDOW_TURNS,
    context: int = CONTEXT_TURNS,
    telling: Sequence[tuple[Sentence, ...]] | None = None,
) -> tuple[Window, ...]:
    """Each utterance is in the turns of exactly one window, in order; the ones before a window are its context.

    Args:
        turns: Most that are asked about in a window; it ends with the last of them, so that what is said later doesn't
            change it.
        telling: For each utterance the sentences that are asked about; None: all are.
    """
    windows: list[Window] = []
    start = 0
    while start < len(utterances):
        end, size, count = start, 0, 0
        while end < len(utterances) and count < turns:
            if telling is None or telling[end]:
                size += len(utterances[end].text)
                if count and size > WINDOW_CHARACTERS:
                    break
                count += 1
            end += 1
        before = tuple(utterances[max(0, start - context) : start])
        told = None if telling is None else tuple(telling[start:end])
        windows.append(Window(before, tuple(utterances[start:end]), told))
        start = end
    return tuple(windows)
