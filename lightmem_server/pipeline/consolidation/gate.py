"""The grounding gate: a proposal is kept only where code can tie it to the turn that it cites.

The first broken rule (rules.py) is the reason that is counted; the Selector judges last, what no rule refused.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from lightmem_server.pipeline.consolidation.claims import begins_with_own, is_speaker, mentions_as_own
from lightmem_server.pipeline.consolidation.clauses import About
from lightmem_server.pipeline.consolidation.grounds import Grounds, ground
from lightmem_server.pipeline.consolidation.model import (
    Proposal,
    Reason,
    Rejection,
    Window,
)
from lightmem_server.pipeline.consolidation.phrasing import (
    name_what,
    tell_deed,
    tell_other,
    with_few,
    without_open_quotes,
)
from lightmem_server.pipeline.consolidation.proposals import Relation
from lightmem_server.pipeline.consolidation.rules import find_reason
from lightmem_server.pipeline.consolidation.when import find_when, is_day_of
from lightmem_server.pipeline.consolidation.words import content_keys

MIN_LOGIT = 0.0
"""What the Selector must give a statement beside its evidence. On what the rules kept of FriendsQA's dialogues
ms-marco-MiniLM-L-12-v2 gave 2.6 to 8.8 beside the own turn, and to half of them -11 beside another turn of the scene. It sees
what a turn is about, not who did what: that is for the rules."""

_TOLD = {
    "i": "they",
    "me": "them",
    "my": "their",
    "mine": "theirs",
    "myself": "themselves",
    "we": "they",
    "us": "them",
    "our": "their",
    "ours": "theirs",
    "ourselves": "themselves",
}
_FIRST_PERSON = re.compile(rf"\b(?:{'|'.join(_TOLD)})\b(?!['\u2019]|-\w)", re.IGNORECASE)

Score: TypeAlias = Callable[[str, Sequence[str]], Awaitable[Sequence[float | None]]]
"""Selector.judge: logits of passages for a statement."""


@dataclass(frozen=True, slots=True)
class Gated:
    """What the gate made of a window's proposals, in their order."""

    kept: tuple[Proposal, ...]
    rejected: tuple[Rejection, ...]


def check(
    proposals: Sequence[Proposal], window: Window, relations: Mapping[str, Relation], *, recalled: Sequence[str] = ()
) -> Gated:
    """All rules but the Selector's. What is kept has its validity in time, and its subject written in one way. What two turns
    say is kept with each: the second is a further witness.

    Args:
        recalled: What was returned from memory to the agent lately.
    """
    kept: list[Proposal] = []
    rejected: list[Rejection] = []
    seen: set[tuple[str, str, frozenset[str], tuple[uuid.UUID, ...]]] = set()
    for proposal in proposals:
        grounds = ground(proposal, window, relations, recalled)
        reason = Reason.NO_EVIDENCE if grounds is None else find_reason(grounds)
        if grounds is not None and reason is None:
            proposal = _settle(grounds)
            same = (proposal.subject, proposal.relation, content_keys(proposal.object), proposal.evidence_ids)
            if same in seen:
                reason = Reason.DUPLICATE
            seen.add(same)
        if reason is None:
            kept.append(proposal)
        else:
            rejected.append(Rejection(proposal, reason))
    return Gated(tuple(kept), tuple(rejected))


async def check_all(
    proposals: Sequence[Proposal],
    window: Window,
    relations: Mapping[str, Relation],
    score: Score,
    *,
    recalled: Sequence[str] = (),
    min_logit: float = MIN_LOGIT,
) -> Gated:
    """All rules, and then the Selector: does the turn, with the one before it, tell what the statement says?"""
    gated = await asyncio.to_thread(check, proposals, window, relations, recalled=recalled)
    kept, rejected = [], list(gated.rejected)
    for proposal in gated.kept:
        (logit,) = await score(statement(proposal, relations), [evidence(proposal, window)])
        judged = replace(proposal, score=logit)
        if logit is None or logit < min_logit:
            rejected.append(Rejection(judged, Reason.INCONSISTENT))
        else:
            kept.append(judged)
    return Gated(tuple(kept), tuple(rejected))


def statement(proposal: Proposal, relations: Mapping[str, Relation]) -> str:
    """A fact in words, without its time."""
    relation = relations.get(proposal.relation)
    if relation is None:
        return f"{proposal.subject}: {proposal.object}"
    return relation.states.format(
        subject=proposal.subject,
        object=proposal.object,
        named=name_what(proposal.object, relation.noun),
        deed=tell_deed(proposal.subject, proposal.object),
        told=tell_other(proposal.subject, proposal.object),
    )


def dated_statement(proposal: Proposal, relations: Mapping[str, Relation]) -> str:
    """A fact in words, with the time of what was done or is planned: its turn was said at another one."""
    text, relation = statement(proposal, relations), relations.get(proposal.relation)
    is_event = relation is not None and (relation.is_past or relation.is_plan)
    return f"{text} ({proposal.when})" if is_event and proposal.valid_from is not None and proposal.when else text


def evidence(proposal: Proposal, window: Window) -> str:
    """The cited turns in words."""
    cited = [turn for turn in window.turns if turn.id in proposal.evidence_ids]
    return " ".join(f"{turn.speaker}: {turn.annotated}" for turn in cited)


def in_third_person(said: str) -> str:
    """The words of a speaker about themselves as somebody tells them.

    >>> in_third_person("expressing myself at my job")
    'expressing themselves at their job'
    >>> in_third_person("carved out some me-time")
    'carved out some me-time'
    """
    return _FIRST_PERSON.sub(lambda match: _TOLD[match[0].lower()], said)


def _is_of_own(grounds: Grounds) -> bool:
    """Whether a claim is about something of the speaker's that it names without "my": "legs hurt", which the speaker doesn't
    do. What "is" says of it reads well without: "Ana's birthday is on 4 July"."""
    relation, words = grounds.relation, grounds.proposal.object.lower().split()
    is_own = grounds.subject.about is About.SPEAKERS_OWN and begins_with_own(grounds)
    return bool(
        relation
        and relation.is_predicate
        and not relation.is_plan
        and is_own
        and not {"is", "are", "was"} & set(words[1:3])
    )


def _settle(grounds: Grounds) -> Proposal:
    proposal = grounds.proposal
    if mentions_as_own(grounds):
        proposal = replace(proposal, when="")  # a time in that sentence is of what it says of "my dog"
    date = find_when(proposal.when, grounds.cited) if proposal.when else None
    if date is None and is_day_of(proposal.when, grounds.cited):
        proposal = replace(proposal, when="")  # when it was said, which the evidence knows better
    subject = grounds.cited.speaker if is_speaker(grounds) else proposal.subject
    said = in_third_person(with_few(without_open_quotes(proposal.object), grounds.sentence.text))
    if _is_of_own(grounds) and not said.startswith("their "):
        said = f"their {said}"
    proposal = replace(proposal, object=said, evidence_ids=(grounds.cited.id,))
    if date is None:
        return replace(proposal, subject=subject)
    return replace(proposal, subject=subject, when=date.value, valid_from=date.valid_from, valid_to=date.valid_to)
