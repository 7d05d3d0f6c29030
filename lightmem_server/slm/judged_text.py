"""What the Selector reads of a memory: the one place that decides it, for serving and for training the Selector
(distill/). Changing it means training anew."""

from __future__ import annotations

import re

MAX_CONTEXT_CHARACTERS = 600
"""How much of the turn before is looked at, from its end: what is answered tends to be said last."""

MARK = "|"
"""Parts what was said before from what is judged. One word piece, rare in what people say."""

_SENTENCE = re.compile(r"[^.!?\n]*[.!?\n]+|[^.!?\n]+$")


def said(speaker: str, text: str) -> str:
    """A turn with who said it."""
    return f"{speaker}: {text}" if speaker else text


def judged_text(passage: str, asked_before: str = "") -> str:
    """A turn as it is judged, behind the question that it may answer.

    >>> judged_text("Ana: Next Friday!", "Ben: When do you move?")
    'Ben: When do you move? | Ana: Next Friday!'
    >>> judged_text("Ana: I am moving.")
    'Ana: I am moving.'
    """
    return f"{asked_before} {MARK} {passage}" if asked_before else passage


def tail(text: str) -> str:
    """The end of a text, cut between words."""
    if len(text) <= MAX_CONTEXT_CHARACTERS:
        return text
    end = text[-MAX_CONTEXT_CHARACTERS:]
    return end.partition(" ")[2] or end


def last_question(text: str) -> str:
    """The last question in a text; "" when it asks nothing."""
    for sentence in reversed(_SENTENCE.findall(tail(text))):
        if sentence.rstrip().endswith("?"):
            return str(sentence).strip()
    return ""
