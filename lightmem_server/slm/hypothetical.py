"""Hypothetical queries: the Writer's guesses at what the memory that is looked for would say, as more views of the query.

A guess has the words and the form of a memory, which a question has not. Off unless a request asks for it: writing takes
seconds on a few cores. A guess is searched for and shown in the trace; it is never stored, and never an answer.

Source: the idea is HyDE's (Gao et al., ACL 2023), with several guesses as the LightMem paper has.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from lightmem_server.slm.controller import Plan, QueryView
from lightmem_server.slm.prompt import Prompt, load_prompt
from lightmem_server.slm.protocols import Ending, Writer

HYPOTHETICAL_WEIGHT = 0.3
"""Of all guesses together, in the fusion; the query's own views keep the rest. Chosen, not fitted: a wrong guess, and most
are, must not outvote what was asked."""

TOKENS_PER_GUESS = 24
LONGEST_QUERY = 1000
"""Characters of the query that the Writer reads."""

CACHED_QUERIES = 1024

_NUMBERING = re.compile(r"^\s*(?:[-*\u2022]|\d{1,2}[.):])\s+")


class HypotheticalQueries:
    """Asks a Writer, and keeps what it said. Belongs to one event loop.

    Kept by query, count, weights and prompt: greedy writing makes a guess a function of these. No memory goes into it, so
    it tells one user nothing of another.
    """

    def __init__(self, writer: Writer, *, prompt: Prompt | None = None, capacity: int = CACHED_QUERIES) -> None:
        """
        Args:
            prompt: None: the current one.
            capacity: Queries kept; beyond it the least recently asked leaves.
        """
        self._writer = writer
        self._prompt = prompt or load_prompt("hypothetical-1")
        self._capacity = capacity
        self._kept: OrderedDict[tuple[str, int, str, str], tuple[str, ...]] = OrderedDict()

    async def guess(self, query: str, count: int, *, deadline: float | None = None) -> tuple[str, ...]:
        """At most `count` guesses, in the Writer's order; fewer when it has no more, or the deadline comes.

        Args:
            deadline: time.monotonic() seconds. What was complete by then is returned, and not kept.

        Raises:
            OverloadedError: The Writer's queue is full.
        """
        query = query.strip()[:LONGEST_QUERY]
        key = (query, count, self._writer.identity, self._prompt.version)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        written = await self._writer.generate(
            self._prompt.static,
            self._prompt.ask(count=count, query=query),
            max_tokens=TOKENS_PER_GUESS * count,
            deadline=deadline,
            is_online=True,
        )
        is_cut = written.ending in (Ending.DEADLINE, Ending.MAX_TOKENS)
        guesses = read_guesses(written.text, query, is_cut=is_cut)[:count]
        if written.ending is not Ending.DEADLINE:
            self._kept[key] = guesses
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return guesses


def read_guesses(text: str, query: str, *, is_cut: bool) -> tuple[str, ...]:
    """The lines of a text that can be searched for: each once, without numbers and quotes, not the query itself.

    Args:
        is_cut: The writing was ended: the last line is half a sentence, and left out.

    >>> read_guesses("1. I moved to Lisbon.\\n- I moved to Lisbon.\\nWe live in", "Where?", is_cut=True)
    ('I moved to Lisbon.',)
    """
    lines = text.splitlines()[: -1 if is_cut else None]
    cleaned = (_NUMBERING.sub("", line).strip().strip('"\u201c\u201d').strip() for line in lines)
    wanted = {line.casefold(): line for line in reversed(list(cleaned)) if any(map(str.isalnum, line))}
    wanted.pop(query.casefold(), None)
    return tuple(reversed(wanted.values()))


def with_guesses(plan: Plan, guesses: Sequence[str]) -> Plan:
    """The plan with a view for each guess; the weights still sum to 1."""
    if not guesses:
        return plan
    views = (
        *(replace(view, weight=view.weight * (1 - HYPOTHETICAL_WEIGHT)) for view in plan.views),
        *(QueryView(guess, HYPOTHETICAL_WEIGHT / len(guesses)) for guess in guesses),
    )
    return replace(plan, views=views)
