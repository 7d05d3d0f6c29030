"""A window's facts: proposed by the Writer, or by patterns without one, and what the gate keeps of them."""

from __future__ import annotations

from collections.abc import Sequence

from lightmem_server.pipeline.consolidation.extract import extract
from lightmem_server.pipeline.consolidation.gate import Score, check, check_all
from lightmem_server.pipeline.consolidation.model import Window, WindowOutcome
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt, Proposed, propose
from lightmem_server.slm.protocols import Writer


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
    proposed = Proposed(extract(window), 0) if writer is None else await propose(window, writer, prompt)
    relations = prompt.by_name
    if score is None:
        gated = check(proposed.proposals, window, relations, recalled=recalled)
    else:
        gated = await check_all(proposed.proposals, window, relations, score, recalled=recalled)
    return WindowOutcome(gated.kept, gated.rejected, proposed.malformed, proposed.prompt_tokens, proposed.tokens)
