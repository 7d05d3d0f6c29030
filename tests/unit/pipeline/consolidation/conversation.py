"""Short forms of conversations for the tests of consolidation."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from lightmem_server.pipeline.consolidation.facts import find_facts, with_time
from lightmem_server.pipeline.consolidation.gate import check, statement
from lightmem_server.pipeline.consolidation.model import Proposal, Window
from lightmem_server.pipeline.consolidation.normalise import normalise
from lightmem_server.pipeline.consolidation.proposals import PROMPT as FACTS
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt
from lightmem_server.slm.time_window import to_micros
from lightmem_server.types import Kind, Memory, Role, Tier

SAID_AT = to_micros(datetime(2022, 4, 11, 18, 30, tzinfo=UTC))  # a Monday
MINUTE = 60_000_000


def turn(line: str, *, place: int = 0, session_id: str = "s", at: int = SAID_AT, role: Role | None = None) -> Memory:
    """A turn from "Ana: I moved."; the speaker Assistant has that role."""
    speaker, _, text = line.partition(": ")
    role = role or (Role.ASSISTANT if speaker == "Assistant" else Role.USER)
    return Memory(
        uuid.UUID(int=place + 1),
        Tier.MTM,
        Kind.TURN,
        text,
        occurred_at=at + place * MINUTE,
        created_at=at,
        session_id=session_id,
        speaker=speaker,
        role=role,
    )


def turns(*lines: str) -> list[Memory]:
    """Turns a minute apart, oldest first."""
    return [turn(line, place=place) for place, line in enumerate(lines)]


def window(*lines: str, context: int = 0) -> Window:
    """A window of all lines; the first `context` of them only explain."""
    utterances = normalise(turns(*lines))
    return Window(utterances[:context], utterances[context:])


def proposals(text: str, window: Window) -> tuple[Proposal, ...]:
    """Proposals from lines `subject | relation | object | when | turn`, "-" for no time."""
    read = []
    for line in text.splitlines():
        subject, relation, said, when, number = (field.strip() for field in line.split("|"))
        cited = window.turns[int(number) - 1]
        read.append(Proposal(subject, relation, said, when.strip("-[]"), (cited.id,), line=line))
    return tuple(read)


async def facts(*lines: str) -> list[str]:
    """In words, what is kept of a window of all lines by rules, without a model."""
    prompt = FactsPrompt.load(FACTS)
    outcome = await find_facts(window(*lines), prompt)
    return [statement(proposal, prompt.by_name) for proposal in outcome.kept]


def fate(said: str, fact: str, *before: str) -> str:
    """What becomes of `relation | object` that a Writer says of Ana, who says `said` behind the turns `before`: "kept", or the
    reason."""
    prompt = FactsPrompt.load(FACTS)
    relation, object_ = (field.strip() for field in fact.split("|"))
    its = window(*before, f"Ana: {said}")
    proposal = Proposal("Ana", relation, object_, "", (its.turns[-1].id,))
    gated = check([with_time(prompt.settle(proposal), its, prompt.by_name)], its, prompt.by_name)
    return "kept" if gated.kept else gated.rejected[0].reason.value
