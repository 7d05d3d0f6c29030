"""How sure we are of a fact, and when it is let go.

    confidence = 1 - (1 - g) ** n

with n the turns that support it and g what the gate's last rule gave for it, 0.5 to 0.9: independent witnesses, each right
with probability g (noisy or; Pearl, "Probabilistic Reasoning in Intelligent Systems", 1988, section 4.3.2). It is stored
as of the last support. Age is not stored but applied when it is asked whether a fact fades: halved every HALF_LIFE since it
was last supported or returned.
"""

from __future__ import annotations

import math

HALF_LIFE_DAYS = 180.0
"""Of a fact that nobody repeats and nobody asks for."""

FADED = 0.1
"""Below it a fact is archived: one of confidence 0.7 after 17 months without support or use, one said four times after
20."""

LEAST_GATE, MOST_GATE = 0.5, 0.9
"""The gate lets pass what is more likely right than not, and is never certain."""

UNJUDGED = 0.6
"""Of a fact that the Selector did not judge."""

LOGIT_SCALE = 4.0
"""Logits over which the gate's certainty grows; not a calibration, only monotone: no threshold of retrieval rests on it."""

_DAY_MICROS = 86_400_000_000


def gate_confidence(logit: float | None) -> float:
    """g for what the Selector gave the statement beside its evidence; None: it did not judge.

    >>> gate_confidence(None), round(gate_confidence(0.0), 2), gate_confidence(1e9)
    (0.6, 0.7, 0.9)
    """
    if logit is None:
        return UNJUDGED
    share = 0.5 * (1 + math.tanh(logit / (2 * LOGIT_SCALE)))
    return LEAST_GATE + (MOST_GATE - LEAST_GATE) * share


def confidence(gate: float, support: int) -> float:
    """Of a fact with so many supporting turns, at least one.

    >>> round(confidence(0.7, 1), 3), round(confidence(0.7, 3), 3)
    (0.7, 0.973)
    """
    return 1 - math.pow(1 - gate, max(1, support))


def gate_of(stored: float, support: int) -> float:
    """g of a fact that is stored with a confidence and so many turns: the inverse of `confidence`.

    >>> round(gate_of(confidence(0.7, 3), 3), 6)
    0.7
    """
    return 1 - math.pow(1 - min(stored, 1 - 1e-9), 1 / max(1, support))


def has_faded(stored: float, idle_micros: int) -> bool:
    """Whether a fact is to leave search, so long after it was last supported or returned.

    >>> day = 86_400_000_000
    >>> has_faded(0.7, 400 * day), has_faded(0.7, 600 * day)
    (False, True)
    """
    half_lives = max(0, idle_micros) / (HALF_LIFE_DAYS * _DAY_MICROS)
    return stored * math.exp2(-half_lives) < FADED
