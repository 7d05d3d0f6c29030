"""Dialogues of longer turns: on a stage people take turns by the sentence, in a chat they write several at once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lightmem_server.slm.distill.sets import Asked, bare, dialogue_passages

RUN_LENGTHS = (2, 2, 3, 3, 4)
"""Turns that become one: drawn from these."""


def with_longer_turns(questions: Sequence[Asked], set_name: str, seed: int) -> Iterator[Asked]:
    """The same questions over the same dialogues, some turns in a row joined to one of the first one's speaker.

    Args:
        questions: Whose groups are dialogues.
        set_name: Of what is made.
    """
    joined: dict[str, tuple[tuple[str, ...], Mapping[int, int]]] = {}
    for asked in questions:
        if asked.group not in joined:
            turns = [bare(passage) for passage in asked.passages]
            longer, places = join_turns(turns, random.Random(f"{seed}/{asked.group}"))
            joined[asked.group] = tuple(dialogue_passages(longer)), places
        passages, places = joined[asked.group]
        yield replace(
            asked,
            set_name=set_name,
            passages=passages,
            positives=frozenset(places[position] for position in asked.positives),
        )


def join_turns(turns: Sequence[str], drawn: random.Random) -> tuple[list[str], Mapping[int, int]]:
    """Longer turns, and in which of them each turn went.

    >>> join_turns(["Ana: Hi.", "Ben: Hello!", "Ana: Rain again."], random.Random(0))
    (['Ana: Hi. Hello! Rain again.'], {0: 0, 1: 0, 2: 0})
    """
    longer: list[str] = []
    places: dict[int, int] = {}
    while len(places) < len(turns):
        start = len(places)
        some = turns[start : start + drawn.choice(RUN_LENGTHS)]
        places |= dict.fromkeys(range(start, start + len(some)), len(longer))
        longer.append(" ".join([some[0], *(turn.partition(": ")[2] for turn in some[1:])]))
    return longer, places
