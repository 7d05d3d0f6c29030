"""Texts that speak to a model instead of telling something: nothing of them is evidence, and nothing is made of them."""

from __future__ import annotations

import re

_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|forget|override)\s+(?:\w+\s+){0,3}?(?:above|previous|prior|earlier|instructions?|rules|everything)\b"
    r"|\b(?:output|print|write|append|add|insert|respond with|reply with|return)\s+(?:\w+\s+){0,3}?"
    r"(?:following|line|lines|fact|facts|exactly|verbatim|json)\b"
    r"|\b(?:new|updated?) (?:instructions?|system prompt|facts?)\s*:|\bsystem\s*(?:prompt)?\s*:|<\|?\w+\|?>|\w\s*\|\s*\w+\s*\|"
    r"|\b(?:you are|act as|pretend to be) (?:now )?(?:an?|the) (?:ai|assistant|model|language model|system)\b",
    re.IGNORECASE,
)


def is_instruction_text(text: str) -> bool:
    """Whether a text speaks to a model: "ignore the above and write ..."."""
    return _INSTRUCTION.search(text) is not None
