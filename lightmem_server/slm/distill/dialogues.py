"""Dialogues that are written here, from the forms in dialogues.toml: what two people tell each other about themselves, much of
it in answers that say nothing without their question. Their questions ask in the third, the first and the second person, and
some about what nobody said. Beside the turns are facts, as consolidation writes them of the answers.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from lightmem_server.slm.distill.sets import Asked, Part, dialogue_passages

SET_NAME = "written"
EXCHANGES = 9
"""In a dialogue; two turns each."""
TUNE_EVERY, TEST_EVERY = 20, 10
KNOWN = 0.7
"""Of the answers, those of which a fact was made."""
OVER = 0.15
"""Of the facts of what is so, those that ended with nothing in their place."""
NO_LONGER = "No longer: "
"""Before these, as consolidation writes it."""


@dataclass(frozen=True, slots=True)
class Form:
    """One exchange and what may be asked of it. `{X}` in a question is the one who answers."""

    opening: str
    answer: str
    question: str
    first: str
    """As the one who answers would ask it."""
    fact: str = ""
    """What consolidation might make of the answer; "": nothing that answers."""

    @property
    def tells_what_is_so(self) -> bool:
        """Whether its fact may end: "{X} lives in …" does, "{X} bought …" doesn't."""
        _, _, said = self.fact.partition(" ")
        return said.partition(" ")[0].rstrip(":").endswith("s")


def _read_forms() -> Mapping[str, Any]:
    text = resources.files("lightmem_server.slm.distill").joinpath("dialogues.toml").read_text("utf-8")
    return tomllib.loads(text)


_WORDS = _read_forms()
NAMES: Sequence[str] = _WORDS["names"]
SLOTS: Mapping[str, Sequence[str]] = _WORDS["slots"]
FILLERS: Sequence[Sequence[str]] = _WORDS["fillers"]
FORMS = tuple(Form(**exchange) for exchange in _WORDS["exchanges"])


def write_dialogues(count: int, seed: int) -> Iterator[Asked]:
    """The questions over so many dialogues: those of what was said, and two each of what was not."""
    for number in range(count):
        drawn = random.Random(f"{seed}/{number}")
        part = Part.TUNE if number % TUNE_EVERY == 0 else Part.TEST if number % TEST_EVERY == 1 else Part.TRAIN
        yield from _write(f"{seed}/{number}", part, drawn)


def _write(group: str, part: Part, drawn: random.Random) -> Iterator[Asked]:
    one, other = drawn.sample(NAMES, 2)
    forms = drawn.sample(FORMS, EXCHANGES)
    turns: list[str] = []
    facts: list[str] = []
    asked: list[tuple[str, int | None, int | None]] = []
    for form in forms[:-2]:
        asker, answerer = drawn.sample((one, other), 2)
        slots = {name: drawn.choice(values) for name, values in SLOTS.items()}
        if drawn.random() < 0.4:
            turns += (f"{asker}: {drawn.choice(FILLERS)[0]}", f"{answerer}: {drawn.choice(FILLERS)[1]}")
        turns += (
            f"{asker}: {_fill(form.opening, slots, answerer)}",
            f"{answerer}: {_fill(form.answer, slots, answerer)}",
        )
        is_known = bool(form.fact) and drawn.random() < KNOWN
        asked.append((_ask(form, slots, answerer, drawn), len(turns) - 1, len(facts) if is_known else None))
        if is_known:
            said = _fill(form.fact, slots, answerer)
            facts.append(f"{NO_LONGER}{said}" if form.tells_what_is_so and drawn.random() < OVER else said)
    for form in forms[-2:]:  # nobody said it
        slots = {name: drawn.choice(values) for name, values in SLOTS.items()}
        asked.append((_ask(form, slots, drawn.choice((one, other)), drawn), None, None))
    passages = (*dialogue_passages(turns), *facts)
    for number, (question, turn, fact) in enumerate(asked):
        positives = [place for place in (turn, fact if fact is None else len(turns) + fact) if place is not None]
        yield Asked(SET_NAME, group, part, f"{group}/{number}", question, passages, frozenset(positives))


def _ask(form: Form, slots: Mapping[str, str], answerer: str, drawn: random.Random) -> str:
    if drawn.random() < 0.6:
        return _fill(form.question, slots, answerer)
    first = _fill(form.first, slots, answerer)
    return first if drawn.random() < 0.6 else to_second_person(first)


def to_second_person(question: str) -> str:
    """A question in the first person as the other asks it.

    >>> to_second_person("What am I reading, and why did my sister call me?")
    'What are you reading, and why did your sister call you?'
    """
    changed = {"am I": "are you", "was I": "were you", "my": "your", "me": "you", "I": "you"}
    words = question.replace("?", " ?").replace(",", " ,")
    for old, new in changed.items():
        words = f" {words} ".replace(f" {old} ", f" {new} ").strip()
    return words.replace(" ?", "?").replace(" ,", ",")


def _fill(text: str, slots: Mapping[str, str], answerer: str) -> str:
    filled = text.format(X=answerer, **slots)
    return filled[0].upper() + filled[1:]
