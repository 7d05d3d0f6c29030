"""What the steps of consolidation hand to each other."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from lightmem_server.pipeline.consolidation.words import Sentence
from lightmem_server.types import Memory, Role


class ResolutionKind(StrEnum):
    """What a piece of a turn was understood as."""

    SPEAKER = "speaker"
    """A word of the first person: its speaker."""
    DATE = "date"
    """A time relative to when it was said: the day, week, month or year."""
    PERSON = "person"
    """A pronoun with one possible person in the window."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """`text[start:end]` of a turn means `value`. For a date `valid_from` <= t < `valid_to`, microseconds."""

    start: int
    end: int
    kind: ResolutionKind
    value: str
    valid_from: int | None = None
    valid_to: int | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """A turn with what was resolved in it; `turn.text` stays as it was said. `speaker` is a name in any case: the turn's own,
    or its role's."""

    turn: Memory
    speaker: str
    resolutions: tuple[Resolution, ...] = ()

    @property
    def text(self) -> str:
        """As it was said."""
        return self.turn.text

    @property
    def id(self) -> uuid.UUID:
        """The turn's."""
        return self.turn.id

    @property
    def is_evidence(self) -> bool:
        """Whether it can prove something about people: an assistant's own words, or a tool's, don't."""
        return self.turn.role in (Role.USER, Role.NONE)

    @property
    def annotated(self) -> str:
        """The text with dates and persons in brackets behind the words that mean them."""
        return self._annotate(0, len(self.text), ResolutionKind.DATE, ResolutionKind.PERSON)

    def with_persons(self, start: int, end: int) -> str:
        """`text[start:end]` with persons in brackets behind the words that mean them."""
        return self._annotate(start, end, ResolutionKind.PERSON)

    def _annotate(self, start: int, end: int, *kinds: ResolutionKind) -> str:
        pieces, at = [], start
        for resolution in self.resolutions:
            is_new = resolution.value not in self.text[resolution.start : resolution.end]
            if resolution.kind in kinds and is_new and start <= resolution.start and resolution.end <= end:
                pieces.append(f"{self.text[at : resolution.end]} [{resolution.value}]")
                at = resolution.end
        return "".join([*pieces, self.text[at:end]])


@dataclass(frozen=True, slots=True)
class Episode:
    """Turns that belong together, oldest first. `identity` changes when one of them does, or when others belong to it."""

    identity: str
    turns: tuple[Memory, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Facts are made of `turns`, `context` only explains them.

    Attributes:
        told: For each turn the sentences that the Writer reads, none of a turn that can tell nothing; None: all of all.
    """

    context: tuple[Utterance, ...]
    turns: tuple[Utterance, ...]
    told: tuple[tuple[Sentence, ...], ...] | None = None

    @property
    def asked(self) -> tuple[Utterance, ...]:
        """The turns that the Writer is asked about, oldest first."""
        if self.told is None:
            return self.turns
        return tuple(turn for turn, told in zip(self.turns, self.told, strict=True) if told)

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """All, oldest first."""
        return self.context + self.turns

    @property
    def speakers(self) -> frozenset[str]:
        """Who speaks in it."""
        return frozenset(utterance.speaker for utterance in self.utterances)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate fact, as a model or a pattern put it.

    Attributes:
        when: In the proposer's words; "" when it gave none.
        valid_from, valid_to: What `when` resolves to in the cited turns; None when to nothing.
        line: What it was read from.
        score: The Selector's logit for the statement and its evidence; None: not judged.
    """

    subject: str
    relation: str
    object: str
    when: str
    evidence_ids: tuple[uuid.UUID, ...]
    line: str = ""
    valid_from: int | None = None
    valid_to: int | None = None
    score: float | None = None


class Reason(StrEnum):
    """Why the gate refused a proposal; stable, counted and shown. In the order in which the rules are tried."""

    NO_EVIDENCE = "no_evidence"
    UNKNOWN_RELATION = "unknown_relation"
    EMPTY = "empty"
    DANGLING = "dangling"
    DUPLICATE = "duplicate"
    NOT_A_PERSON = "not_a_person"
    ASSISTANT = "assistant"
    INSTRUCTION = "instruction"
    ECHO = "echo"
    UNSUPPORTED_NUMBER = "unsupported_number"
    UNSUPPORTED_NAME = "unsupported_name"
    UNSUPPORTED_DATE = "unsupported_date"
    UNSUPPORTED_OBJECT = "unsupported_object"
    COURTESY = "courtesy"
    QUESTION = "question"
    WRONG_SPEAKER = "wrong_speaker"
    WRONG_SUBJECT = "wrong_subject"
    NEGATED = "negated"
    HYPOTHETICAL = "hypothetical"
    NOT_DONE = "not_done"
    WRONG_RELATION = "wrong_relation"
    UNGOVERNED = "ungoverned"
    INCOMPLETE = "incomplete"
    INCONSISTENT = "inconsistent"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A proposal that the gate refused."""

    proposal: Proposal
    reason: Reason


@dataclass(frozen=True, slots=True)
class WindowOutcome:
    """What became of one window. `malformed` counts the lines that were no proposals, `asked` the turns that it asks about."""

    kept: tuple[Proposal, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    malformed: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    asked: int = 0

    @property
    def reasons(self) -> Counter[Reason]:
        """How many proposals were refused, by reason."""
        return Counter(rejection.reason for rejection in self.rejected)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of an episode's summary. `dropped` are the sentences that its turns don't support."""

    text: str
    evidence_ids: tuple[uuid.UUID, ...]
    dropped: tuple[str, ...] = ()
    is_extractive: bool = False
    prompt_tokens: int = field(default=0, compare=False)
    tokens: int = field(default=0, compare=False)
