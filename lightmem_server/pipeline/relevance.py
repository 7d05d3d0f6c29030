"""How likely a memory is to answer the need."""

from __future__ import annotations

from lightmem_server.pipeline.retrieval import Candidate
from lightmem_server.slm.selector import to_probability


def relevance(candidate: Candidate) -> float | None:
    return None if candidate.logit is None else to_probability(candidate.logit)
