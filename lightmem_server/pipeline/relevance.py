"""How likely a memory is to answer the need: a probability that means the same whatever the query.

A logistic model of the coarse score and the Selector's logit, and one of the coarse score alone for what was not judged,
fitted to which candidates of 2,383 questions held the evidence: FriendsQA (Apache-2.0), its scenes told as sessions of ten
users. The expected calibration error (ten bins of like count) is .011 on users left out of the fit, .004 to .017 by
user, and .052 on LoCoMo, where nothing was fitted; the logistic of the bare logit has .095 and .198. Fit it anew when the
weights of the coarse score or the Selector change.
"""

from __future__ import annotations

from dataclasses import dataclass

from lightmem_server.pipeline.retrieval import Candidate
from lightmem_server.slm.selector import to_probability


@dataclass(frozen=True, slots=True)
class Calibration:
    """Log-odds = bias + coarse * coarse score + logit * the Selector's logit."""

    bias: float
    coarse: float
    logit: float


JUDGED = Calibration(bias=-8.18, coarse=1.24, logit=0.136)
NOT_JUDGED = Calibration(bias=-10.8, coarse=1.70, logit=0.0)


def relevance(candidate: Candidate) -> float:
    """The probability that a candidate answers the need, 0 to 1."""
    model = NOT_JUDGED if candidate.logit is None else JUDGED
    return to_probability(model.bias + model.coarse * candidate.coarse_score + model.logit * (candidate.logit or 0.0))
