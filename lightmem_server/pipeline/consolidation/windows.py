"""Cuts a session into windows of a few turns: a small Writer reads two or three turns well, and a whole dialogue badly."""

from __future__ import annotations

from collections.abc import Sequence

from lightmem_server.pipeline.consolidation.model import Utterance, Window

WINDOW_TURNS = 3
CONTEXT_TURNS = 2
WINDOW_CHARACTERS = 2400
"""Of the turns that facts are asked of; a longer turn is a window of its own."""


def cut_windows(
    utterances: Sequence[Utterance], *, turns: int = WINDOW_TURNS, context: int = CONTEXT_TURNS
) -> tuple[Window, ...]:
    """Each utterance is asked about in exactly one window, in order; the ones before a window are its context."""
    windows: list[Window] = []
    start = 0
    while start < len(utterances):
        end, size = start, 0
        while end < len(utterances) and end - start < turns:
            size += len(utterances[end].text)
            if end > start and size > WINDOW_CHARACTERS:
                break
            end += 1
        windows.append(Window(tuple(utterances[max(0, start - context) : start]), tuple(utterances[start:end])))
        start = end
    return tuple(windows)
