"""A window's facts: proposed by the Writer, or by patterns without one, and what the gate keeps of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lightmem_server.pipeline.consolidation.extract import extract
from lightmem_server.pipeline.consolidation.gate import Score, check, check_all
from lightmem_server.pipeline.consolidation.grounds import ground
from lightmem_server.pipeline.consolidation.model import Proposal, Window, WindowOutcome
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt, Proposed, Relation, propose
from lightmem_server.pipeline.consolidation.rules import find_reason
from lightmem_server.pipeline.consolidation.when import date_of_claim, without_time
from lightmem_server.slm.protocols import Writer


def with_evidence(proposal: Proposal, window: Window, relations: Mapping[str, Relation]) -> Proposal:
    """A proposal that cites the turn which tells it: of those that the Writer was asked about the first with which the gate
    lets it pass, else the one that has its words."""
    cites = [ground(replace(proposal, evidence_ids=(turn.id,)), window, relations) for turn in window.asked]
    found = [grounds for grounds in cites if grounds is not None]
    best = next((grounds for grounds in found if find_reason(grounds) is None), found[0])
    return replace(proposal, evidence_ids=(best.cited.id,))


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
    return tuple(with_time(with_evidence(proposal, window, relations), window, relations) for proposal in proposals)


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
        writer: None: profile `lite`, by patterns.
        score: Selector.judge; None: without the last rule.
        recalled: What was returned from memory to the agent lately.

    Raises:
        OverloadedError: A model's queue is full.
    """
    relations = prompt.by_name
    if writer is None:
        proposed = Proposed(await asyncio.to_thread(extract, window), 0)
    else:
        proposed = await propose(window, writer, prompt)
        proposed = replace(
            proposed, proposals=await asyncio.to_thread(_complete, proposed.proposals, window, relations)
        )
    if score is None:
        gated = await asyncio.to_thread(check, proposed.proposals, window, relations, recalled=recalled)
    else:
        gated = await check_all(proposed.proposals, window, relations, score, recalled=recalled)
    return WindowOutcome(
        gated.kept,
        gated.rejected,
        proposed.malformed,
        proposed.prompt_tokens,
        proposed.tokens,
        asked=len(window.asked),
    )
