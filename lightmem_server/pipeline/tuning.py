"""The constants of retrieval, each in one place, with what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class JudgedLimits:
    """What the Selector reads in one mode: the best candidates within so many tokens, at most `candidates` of them, and
    at least `at_least`, however long they are."""

    tokens: int
    candidates: int
    at_least: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """The constants of retrieval, each in one place. tests/bench/quality.py says what a change does.

    The weights are equal or round on purpose. They were chosen with a NumPy reference of this formula, without the Selector,
    and the figures here are that reference's, not the server's (README.md has those). On LoCoMo, 1,982 questions, R@10 /
    MRR: .842 / .673; weights fitted to nine dialogues and judged on the tenth .845 / .672; the worst of 192 settings
    around these .817 / .637. On FriendsQA, where nothing was chosen, .683 / .512; reciprocal ranks of four lists .586 / .437.
    "Without" says what was left of .841 / .668, at weights next to these.

    Attributes:
        dense_weights, lexical_weights: Of each passage view's list in the fusion (passages.VIEW_NAMES).
        session_weight: Of the whole session's words. At half .837 / .667.
        speaker_boost: What a memory gains whose speaker the query names. Without .834 / .660.
        time_boost: What a memory gains that was said inside the query's time window, or soon after it. On the 277 questions
            that have a window R@10 .863 for .800 without, in an earlier formula.
        time_boost_after: How long after the window something still counts: people tell what happened last week. Of the
            evidence 90 % lies within.
        prior_weight: Of passages.informativeness. Without the length .836 / .654, without the question mark .837 / .656.
        list_depth: Entries of each list that are fused.
        judged_fast, judged_full: How many of the best candidates the Selector reads in each mode. In the reference 8 give
            .841 / .705, 16 .842 / .705, 32 .846 / .706 (623 questions), for 550, 1,080 and 2,150 tokens.
        logit_weight: Of the Selector's logit beside the coarse score; .3 moves MRR up and R@10 down by half a point.
        answer_reserve_seconds: Kept free before the deadline for ranking, packing and sending.
        coarse_floor_seconds: What the coarse search gets even when the deadline has all but passed: an answer that is a
            little late is worth more than an empty one.
    """

    dense_weights: tuple[float, ...] = (1.0, 1.0)
    lexical_weights: tuple[float, ...] = (1.0, 1.0)
    session_weight: float = 1.0
    speaker_boost: float = 0.4
    time_boost: float = 1.0
    time_boost_after: timedelta = timedelta(days=7)
    prior_weight: float = 0.5
    list_depth: int = 100
    follow_up_hits: int = 2
    follow_up_weight: float = 0.2
    follow_up_seconds: float = 0.05
    time_expression_boost: float = 0.5
    judged_question_weight: float = 0.0
    highest_logit: float = 11.0
    fast: JudgedLimits = JudgedLimits(tokens=512, candidates=12, at_least=4)
    full: JudgedLimits = JudgedLimits(tokens=1280, candidates=24, at_least=8)
    logit_weight: float = 0.2
    answer_reserve_seconds: float = 0.004
    coarse_floor_seconds: float = 0.005
