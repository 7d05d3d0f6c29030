"""How likely a memory is to answer the need: a probability that means the same whatever the query.

A logistic model of the coarse score and the Selector's logit, and one of the coarse score alone for what was not judged,
fitted to which candidates of 2,383 questions held the evidence: FriendsQA (Apache-2.0), the scenes of a season told as the
sessions of one user. `make bench-calibration` fits them anew, and has to when the weights of the coarse score or the Selector
change. The expected calibration error (ten bins of like count) over all candidates is .005 on users left out of the fit,
.004 to .012 by user, and .018 on LoCoMo, where nothing was fitted and the likeliest are taken for likelier than they are (.38
for .27 in the last bin); over those that were judged alone .013 and .052, where the logistic of the bare logit has .195 and
.266.
"""

from __future__ import annotations

from lightmem_server.pipeline.retrieval import Candidate
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.slm.selector import to_probability


def relevance(candidate: Candidate, tuning: Tuning) -> float:
    """The probability that a candidate answers the need, 0 to 1."""
    model = tuning.not_judged if candidate.logit is None else tuning.judged
    return to_probability(model.bias + model.coarse * candidate.coarse_score + model.logit * (candidate.logit or 0.0))
