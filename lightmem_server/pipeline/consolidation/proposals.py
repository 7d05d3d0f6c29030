"""Asks the Writer for the facts of a window, and reads its lines.

The grammar is a line a fact: `subject | relation | object | when | turn`. A line that isn't one is counted and dropped, and
the lines around it are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from lightmem_server.pipeline.consolidation.model import Proposal, Window
from lightmem_server.pipeline.consolidation.people import RELATIVES
from lightmem_server.slm.prompt import Prompt
from lightmem_server.slm.protocols import Ending, Message, Writer
from lightmem_server.slm.time_window import speaks_of_time

PROMPT = "facts-1"
OTHER, HAS = "other", "has"
"""The relation whose object is a whole predicate, and the one of what and whom somebody has."""
LINE_TOKENS = 36
"""What a line takes at most, of the Writer's tokens."""
LINES_PER_TURN = 2.5
STOPS = ("\n\n", "\nTurns:", "\nBefore:")
LONGEST_FIELD = 120
LONGEST_TURN = 2000
"""Characters of a turn that the Writer reads."""
LONGEST_CONTEXT = 300
"""Characters of a turn before the window, from its end."""

_NOTHING = re.compile(r"^\W*(?:none|nothing|no facts)\W*$", re.IGNORECASE)
_UNSAID = frozenset(["", "-", "\u2013", "none", "n/a", "unknown", "now"])


class Relation(BaseModel):
    """A slot of the grammar.

    Attributes:
        aliases: What models write for it.
        states: The fact in words, with {subject} and {object}, or what phrasing.py makes of them: {named}, the object with its
            article; {deed} and {told}, both as a sentence.
        noun: What an object that is only a name is the name of; "": unknown.
        cues: Words of which the evidence must have one, or the object itself must; empty: none needed.
        is_of_work: An occupation in the clause speaks for it, too: "I'm an engineer at Siemens".
        is_condition: Of health: who speaks of "the allergy" means their own, and a doctor may say that it is none.
        is_plan: About what is to come: words of intention don't speak against it.
        is_denial: Something that isn't so, or isn't liked: negations don't speak against it.
        is_of_others: May be told of what is the speaker's: "my sister is a nurse" tells of the speaker's family.
        is_of_kin: About whom somebody has: who says "my dog" in whatever sentence has one.
        is_past: About what happened.
        is_of_own: May be told of what is the speaker's: "my job is to fix wheels".
        is_state: So now, and not when it is told in the past: "I lived in Rome".
        is_feeling: The object is how somebody feels, no thing.
        needs_number: The object has a number.
        is_general: The object must mean something without its turn: "the smell" doesn't, "the smell of bread" does.
        is_predicate: The object is what somebody does or is, with its verb.
        not_after: Words that, right before the object, say something else: "moved from Rome".
        not_near: Words that, a few words before the object, say something else: "I like tea and hate coffee".
        right_after: Words of which one must be among the few before the object.
        nouns: Words of which the object must have one, unless the sentence gives it for the object's name: "my friend Tom".
        is_single: One holds at a time: a newer one ends the older.
        is_stable: Goes into a person's profile.
        opposes: The relation that can't hold of the same object; "" for none.
        lasts_days: After which it no longer holds; 0: it holds until something ends it.
        shared_as: What may be said of it to other users where enough say the same, with {object}; "": nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    states: str
    noun: str = ""
    aliases: tuple[str, ...] = ()
    cues: tuple[str, ...] = ()
    is_of_work: bool = False
    is_condition: bool = False
    is_plan: bool = False
    is_denial: bool = False
    is_of_others: bool = False
    is_of_kin: bool = False
    is_past: bool = False
    is_of_own: bool = False
    is_state: bool = False
    is_feeling: bool = False
    needs_number: bool = False
    is_general: bool = False
    is_predicate: bool = False
    not_after: tuple[str, ...] = ()
    not_near: tuple[str, ...] = ()
    right_after: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    is_single: bool = False
    is_stable: bool = False
    opposes: str = ""
    lasts_days: float = 0.0
    shared_as: str = ""


class FactsPrompt(Prompt):
    """The instructions, and the relations that they speak of."""

    relations: tuple[Relation, ...]

    @property
    def by_name(self) -> dict[str, Relation]:
        """The relations by their names."""
        return {relation.name: relation for relation in self.relations}

    def settle(self, proposal: Proposal) -> Proposal:
        """A proposal in a slot: its own, one that it is another word for, or else OTHER with the words that it has for one.

        A small model fills the slot with a verb of the turn, "Ben | unpacked | boxes"; the words say what it means, and the
        gate wants them in the turn as those of the object.
        """
        for relation in self.relations:
            if proposal.relation == relation.name:
                return proposal
            if proposal.relation in relation.aliases:
                return replace(proposal, relation=relation.name)
            if proposal.relation in relation.nouns:  # "Ana | sister | Mia"
                return replace(proposal, relation=relation.name, object=f"{proposal.relation} {proposal.object}")
        if proposal.relation in RELATIVES:
            return replace(proposal, relation=HAS, object=f"{proposal.relation} {proposal.object}")
        words = proposal.relation.replace("_", " ")
        said = words if proposal.object.lower() in words else f"{words} {proposal.object}"
        return replace(proposal, relation=OTHER, object=said)


@dataclass(frozen=True, slots=True)
class Proposed:
    """What a Writer's text holds."""

    proposals: tuple[Proposal, ...]
    malformed: int
    prompt_tokens: int = 0
    tokens: int = 0


async def propose(window: Window, writer: Writer, prompt: FactsPrompt) -> Proposed:
    """Ask a Writer for a window's facts.

    Raises:
        OverloadedError: The Writer's queue is full.
    """
    if not any(utterance.is_evidence for utterance in window.turns):
        return Proposed((), 0)  # nobody's own words: nothing can be kept
    written = await writer.generate(
        prompt.static,
        ask(window, prompt),
        max_tokens=int(LINE_TOKENS * LINES_PER_TURN * len(window.turns)),
        stops=STOPS,
    )
    is_cut = written.ending in (Ending.MAX_TOKENS, Ending.DEADLINE)
    proposals, malformed = read_lines(written.text, window, is_cut=is_cut)
    return Proposed(tuple(map(prompt.settle, proposals)), malformed, written.prompt_tokens, written.tokens)


def ask(window: Window, prompt: FactsPrompt) -> Sequence[Message]:
    """The part of the prompt that is the window's own."""
    context = "\n".join(f"{said.speaker}: {_flat(said.text[-LONGEST_CONTEXT:])}" for said in window.context)
    turns = "\n".join(
        f"{number} {said.speaker}: {_flat(said.annotated[:LONGEST_TURN])}"
        for number, said in enumerate(window.turns, 1)
    )
    return prompt.ask(context=context or "-", turns=turns)


def read_lines(text: str, window: Window, *, is_cut: bool = False) -> tuple[tuple[Proposal, ...], int]:
    """The proposals of a Writer's text, and how many of its lines are none.

    Args:
        is_cut: The writing was ended: a last line without all its fields is half a line.
    """
    proposals, malformed = [], 0
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if _NOTHING.match(line):
            continue
        proposal = _read_line(line, window)
        if proposal is None:
            malformed += 1
        else:
            proposals.append(proposal)
    if is_cut and proposals and lines and proposals[-1].line == lines[-1] and not lines[-1][-1].isdigit():
        proposals.pop()
        malformed += 1
    return tuple(proposals), malformed


def _read_line(line: str, window: Window) -> Proposal | None:
    fields = [" ".join(field.split()) for field in line.lstrip("-*\u2022 ").split("|")]
    if len(fields) != 5 or any(len(field) > LONGEST_FIELD for field in fields):
        return None
    subject, relation, said, when, turn = fields
    number = re.fullmatch(r"\D{0,6}(\d{1,2})\D?", turn)
    if number is None or not 1 <= int(number[1]) <= len(window.turns):
        return None
    if not subject or not said or re.fullmatch(r"[a-z]+(?:[_ ][a-z]+)*", relation.lower()) is None:
        return None
    return Proposal(
        subject=subject,
        relation=relation.lower().replace(" ", "_"),
        object=said.strip("\"'. "),
        when=_read_when(when),
        evidence_ids=(window.turns[int(number[1]) - 1].id,),
        line=line,
    )


def _read_when(when: str) -> str:
    """The time that a line gives; "" for none, and for a place or a name that slipped into its column."""
    said = when.strip("[]")
    is_time = any(map(str.isdigit, said)) or speaks_of_time(said)
    return said if is_time and said.lower() not in _UNSAID else ""


def _flat(text: str) -> str:
    """On one line, and without the sign that parts the fields: a turn can't write lines of the grammar."""
    return " ".join(text.replace("|", "/").split())
