"""Asks the Writer for the facts of a window, and reads its lines.

The grammar is a line a fact: `subject | relation | object`. Every token takes a tenth of a second, so nothing is asked for
that code finds: which turn tells it (facts.py), and to which time the words belong (when.py); that makes `subject | relation
| object | when` of a line. A line that isn't one is counted and dropped, and the lines around it are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from lightmem_server.pipeline.consolidation.lexicon import PASTS
from lightmem_server.pipeline.consolidation.model import Proposal, Utterance, Window
from lightmem_server.pipeline.consolidation.people import RELATIVES
from lightmem_server.pipeline.consolidation.words import ends_with_question, split_sentences, split_words
from lightmem_server.slm.prompt import Prompt
from lightmem_server.slm.protocols import Ending, Message, Writer

PROMPT = "facts-2"
OTHER, DID, HAS = "other", "did", "has"
"""The relations whose object is a whole predicate, of any time and of the past, and the one of what and whom somebody has."""
SHORTEST_PAST = 4
"""Letters that a past in "ed" has more of: "need" and "bed" are none."""
LINE_TOKENS = 24
"""What a line takes at most, of the Writer's tokens."""
LINES_PER_TURN = 3
MOST_MALFORMED = 2
"""Lines in a row, after which a text has lost the grammar."""
STOPS = ("\n\n", "\nFacts:")
LONGEST_FIELD = 120
LONGEST_TURN = 2000
"""Characters of a turn that the Writer reads."""
LONGEST_CONTEXT = 200
"""Characters of a question that is shown to explain its answer, from its end."""

_NOTHING = re.compile(r"^\W*(?:none|nothing|no facts)\W*$", re.IGNORECASE)


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

    @property
    def has_time(self) -> bool:
        """Whether a time that is told with it says when it was, is or will be so: not of a taste, nor of somebody's kin."""
        return self.is_predicate or (self.is_state and not self.is_general)


class FactsPrompt(Prompt):
    """The instructions, and the relations that they speak of."""

    relations: tuple[Relation, ...]

    @property
    def by_name(self) -> dict[str, Relation]:
        """The relations by their names."""
        return {relation.name: relation for relation in self.relations}

    def settle(self, proposal: Proposal) -> Proposal:
        """A proposal in a slot: its own, one that it is another word for, or else DID or OTHER with the words that it has.

        A small model fills the slot with a verb of the turn, "Ben | unpacked | boxes"; the words say what it means, and the
        gate wants them in the turn as those of the object.
        """
        proposal = replace(proposal, object=proposal.object.replace("_", " "))
        for relation in self.relations:
            if proposal.relation == relation.name:
                return proposal
            if proposal.relation in relation.aliases:
                return replace(proposal, relation=relation.name)
            if proposal.relation in relation.nouns:
                return replace(proposal, relation=relation.name, object=_with_name(proposal))
        if proposal.relation in RELATIVES:
            return replace(proposal, relation=HAS, object=_with_name(proposal))
        words = proposal.relation.replace("_", " ")
        said = words if proposal.object.lower() in words else f"{words} {proposal.object}"
        verb = words.split()[0]
        is_past = verb in PASTS or (verb.endswith("ed") and len(verb) > SHORTEST_PAST)
        return replace(proposal, relation=DID if is_past else OTHER, object=said)


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
    if not any(utterance.is_evidence for utterance in window.asked):
        return Proposed((), 0)  # nobody's own words: nothing can be kept
    written = await writer.generate(
        prompt.static,
        ask(window, prompt),
        max_tokens=LINE_TOKENS * LINES_PER_TURN * len(window.asked),
        stops=STOPS,
        until=lambda text: has_said_all(text, window),
    )
    is_cut = written.ending in (Ending.MAX_TOKENS, Ending.DEADLINE)
    proposals, malformed = read_lines(written.text, window, is_cut=is_cut)
    return Proposed(tuple(map(prompt.settle, proposals)), malformed, written.prompt_tokens, written.tokens)


def ask(window: Window, prompt: FactsPrompt) -> Sequence[Message]:
    """The part of the prompt that is the window's own: what the turns tell, and the questions that they answer. A small model
    makes facts of whatever it reads, so that more in front of them would be told again."""
    lines, asked, before = [], {said.id for said in window.asked}, None
    for said in window.utterances:
        if said.id in asked:
            is_shown = before is None or before.id in asked
            if (
                before is not None
                and not is_shown
                and before.speaker != said.speaker
                and ends_with_question(before.text)
            ):
                lines.append(f"{before.speaker}: {_flat(split_sentences(before.text)[-1].text[-LONGEST_CONTEXT:])}")
            lines.append(f"{said.speaker}: {_flat(_read_of(said, window)[:LONGEST_TURN])}")
        before = said
    return prompt.ask(turns="\n".join(lines))


def _read_of(said: Utterance, window: Window) -> str:
    """What the Writer reads of a turn."""
    if window.told is None:
        return said.with_persons(0, len(said.text))
    told = window.told[window.turns.index(said)]
    return " ".join(said.with_persons(sentence.start, sentence.end) for sentence in told)


def has_said_all(text: str, window: Window) -> bool:
    """Whether nothing new is to be expected of a text that ends with a whole line: it said that there is nothing, said again
    what stands above, lost the grammar, or has more lines than the turns can have facts."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return False
    if _NOTHING.match(lines[-1]) or len(lines) >= LINES_PER_TURN * len(window.asked):
        return True
    read = [_read_line(line, window) for line in lines]
    if read[-1] is None:
        return len(read) >= MOST_MALFORMED and not any(read[-MOST_MALFORMED:])
    return any(each is not None and _claim(each) == _claim(read[-1]) for each in read[:-1])


def _with_name(proposal: Proposal) -> str:
    """What is had where the relation says who that is: "sister Mia" of "Ana | sister | Mia"; of "Ana | sister | gave advice"
    no more than that there is one."""
    is_name = all(word.is_capitalised for word in split_words(proposal.object))
    return f"{proposal.relation} {proposal.object}" if is_name else proposal.relation


def _claim(proposal: Proposal) -> tuple[str, str, str]:
    return proposal.subject.lower(), proposal.relation, proposal.object.lower()


def read_lines(text: str, window: Window, *, is_cut: bool = False) -> tuple[tuple[Proposal, ...], int]:
    """The proposals of a Writer's text, and how many of its lines are none.

    Args:
        is_cut: The writing was ended anywhere: of the last line a part may be missing.
    """
    proposals, malformed = [], 0
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines[: len(lines) - is_cut]:
        if _NOTHING.match(line):
            continue
        proposal = _read_line(line, window)
        if proposal is None:
            malformed += 1
        else:
            proposals.append(proposal)
    return tuple(proposals), malformed + bool(is_cut and lines)


def _read_line(line: str, window: Window) -> Proposal | None:
    fields = [" ".join(field.split()) for field in line.lstrip("-*\u2022 ").split("|")]
    if len(fields) != 3 or any(len(field) > LONGEST_FIELD for field in fields):
        return None
    subject, relation, said = fields
    if not subject or not said or re.fullmatch(r"[a-z]+(?:[_ ][a-z]+)*", relation.lower()) is None:
        return None
    return Proposal(
        subject=subject,
        relation=relation.lower().replace(" ", "_"),
        object=said.strip("\"'. "),
        when="",
        evidence_ids=tuple(turn.id for turn in window.asked[:1]),
        line=line,
    )


def _flat(text: str) -> str:
    """On one line, and without the sign that parts the fields: a turn can't write lines of the grammar."""
    return " ".join(text.replace("|", "/").split())
