"""Questions about a person, as that person would ask them ("What did I say?"), or as one asks that person ("What did you
say?"). Agents are asked so; the sets ask about everyone by name."""

from __future__ import annotations

import re
from collections.abc import Mapping

_FIRST: Mapping[str, str] = {"is": "am", "does": "do", "has": "have"}
_SECOND: Mapping[str, str] = {"is": "are", "does": "do", "has": "have", "was": "were"}
_AUXILIARIES = "did|does|is|was|has|had|will|would|can|could|should"
_BEFORE_OBJECT = "to|for|with|from|at|about|of|by|on|behind|beside|after|tell|told|ask|asked|give|gave|call|called"


def rewrite(question: str, name: str, *, is_first_person: bool) -> str | None:
    """The question with a person's first name put as I or you; None where it doesn't ask about the person, or only in
    places that can't be told.

    >>> rewrite("What did Ross tell Emily?", "Ross", is_first_person=True)
    'What did I tell Emily?'
    >>> rewrite("Who is Ross's sister?", "Ross", is_first_person=False)
    'Who is your sister?'
    >>> rewrite("Who lied to Ross?", "Ross", is_first_person=True)
    'Who lied to me?'
    """
    subject, object_, owner = ("I", "me", "my") if is_first_person else ("you", "you", "your")
    verbs = _FIRST if is_first_person else _SECOND
    named = re.escape(name)
    text = re.sub(rf"\b{named}\s?'s\b", owner, question)

    def to_subject(match: re.Match[str]) -> str:
        verb = match[1]
        changed = verbs.get(verb.lower(), verb.lower())
        return f"{changed.capitalize() if verb[0].isupper() else changed} {subject}"

    text = re.sub(rf"\b({_AUXILIARIES})\s+{named}\b(?!\s+and\b)", to_subject, text, flags=re.IGNORECASE)
    text = re.sub(rf"\b({_BEFORE_OBJECT})\s+{named}\b(?!\s+and\b)", rf"\1 {object_}", text, flags=re.IGNORECASE)
    if text == question or re.search(rf"\b{named}\b", text):
        return None
    return text
