"""A window's facts: proposed by patterns, and by the Writer where there is one, and what the gate keeps of them.

Patterns stand beside a Writer because each finds what the other misses: what they find is nearly always so, and costs no model
time. Where the Writer fails nothing is kept of the window, of patterns neither: it is asked about again, and a window of
which something was kept counts as done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lightmem_server.pipeline.consolidation.extract import extract
from lightmem_server.pipeline.consolidation.gate import Score, check, check_all, statement
from lightmem_server.pipeline.consolidation.grounds import ground
from lightmem_server.pipeline.consolidation.model import (
    Proposal,
    Reason,
    Rejection,
    Window,
    WindowOutcome,
)
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt, Proposed, Relation, propose
from lightmem_server.pipeline.consolidation.rules import find_reason
from lightmem_server.pipeline.consolidation.when import date_of_claim, without_time
from lightmem_server.pipeline.consolidation.words import content_keys
from lightmem_server.slm.protocols import Writer


def with_evidence(proposal: Proposal, window: Window, relations: Mapping[str, Relation]) -> Proposal:
    """A proposal that cites the turn which tells it, with the time that it has there: of those that the Writer was asked about
    the first with which the gate lets it pass, else the one that has its words."""
    first: Proposal | None = None
    for turn in window.asked:
        grounds = ground(replace(proposal, evidence_ids=(turn.id,)), window, relations)
        if grounds is None:
            continue
        cited = with_time(replace(proposal, evidence_ids=(grounds.cited.id,)), window, relations)
        its = ground(cited, window, relations)
        if its is not None and find_reason(its) is None:
            return cited
        first = first or cited
    return first or proposal


def with_time(proposal: Proposal, window: Window, relations: Mapping[str, Relation]) -> Proposal:
    """A proposal with the time to which its words belong, and without the words for it: "yesterday" is another day when it
    is read again."""
    grounds = ground(proposal, window, relations)
    date = date_of_claim(grounds) if grounds is not None else None
    if grounds is None or date is None:
        return proposal
    said = without_time(proposal.object, grounds.cited.text[date.start : date.end])
    return replace(proposal, object=said or proposal.object, when=date.value)


def _complete(proposals: Sequence[Proposal], window: Window, relations: Mapping[str, Relation]) -> tuple[Proposal, ...]:
    return tuple(with_evidence(proposal, window, relations) for proposal in proposals)


def _fullest(
    kept: Sequence[Proposal], relations: Mapping[str, Relation]
) -> tuple[tuple[Proposal, ...], tuple[Rejection, ...]]:
    """Without those of which another says all and more, of the same turn: "likes jazz" beside "likes jazz and old films"; and
    without those that say the same in the slot of another relation."""
    said = [(statement(proposal, relations), proposal.evidence_ids) for proposal in kept]
    keys = [content_keys(proposal.object) for proposal in kept]
    repeated = {
        place
        for place, proposal in enumerate(kept)
        if said[place] in said[:place]
        or any(
            keys[place] < keys[other]
            and (proposal.subject, proposal.relation, proposal.evidence_ids)
            == (kept[other].subject, kept[other].relation, kept[other].evidence_ids)
            for other in range(len(kept))
        )
    }
    return (
        tuple(proposal for place, proposal in enumerate(kept) if place not in repeated),
        tuple(Rejection(kept[place], Reason.DUPLICATE) for place in sorted(repeated)),
    )


async def find_facts(
    window: Window,
    prompt: FactsPrompt,
    *,
    writer: Writer | None = None,
    score: Score | None = None,
    recalled: Sequence[str] = (),
) -> WindowOutcome:
    """The facts of one window, and what became of every proposal.

    Args:
        writer: None: profile `lite`, by patterns alone.
        score: Selector.judge; None: without the last rule.
        recalled: What was returned from memory to the agent lately.

    Raises:
        OverloadedError: A model's queue is full.
    """
    relations = prompt.by_name
    patterns = await asyncio.to_thread(extract, window)
    proposed = Proposed((), 0)
    if writer is not None:
        proposed = await propose(window, writer, prompt)
        proposed = replace(
            proposed, proposals=await asyncio.to_thread(_complete, proposed.proposals, window, relations)
        )
    proposals = (*proposed.proposals, *patterns)  # of two that say the same the first is kept, which has its time
    if score is None:
        gated = await asyncio.to_thread(check, proposals, window, relations, recalled=recalled)
    else:
        gated = await check_all(proposals, window, relations, score, recalled=recalled)
    kept, repeated = _fullest(gated.kept, relations) if writer is not None else (gated.kept, ())
    return WindowOutcome(
        kept,
        (*gated.rejected, *repeated),
        proposed.malformed,
        proposed.prompt_tokens,
        proposed.tokens,
        asked=len(window.asked),
    )
