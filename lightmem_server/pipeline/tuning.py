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
    """The constants of retrieval. What one is worth is what is lost without it: R@10 / MRR of `make bench-ablation` on LoCoMo,
    1,977 questions, where all parts reach .848 / .726 in mode FAST.

    The weights are equal or round on purpose. The older ones were chosen with a NumPy reference of this formula, without
    the Selector: fitted to nine dialogues and judged on the tenth .845 / .672, the worst of 192 settings around these .817 /
    .637. On FriendsQA, where nothing was chosen, that reference had .683 / .512, reciprocal ranks of four lists .586 / .437.

    Attributes:
        dense_weights, lexical_weights: Of each passage view's list in the fusion (passages.VIEW_NAMES). Without vectors
            -.033 / -.033, without words -.040 / -.036, without the question view -.009 / -.007, the window view -.025 / -.021.
        session_weight: Of the whole session's words. -.014 / -.010.
        speaker_boost: What a memory gains whose speaker the query names. -.008 / -.010.
        time_boost: What a memory gains that was said inside the query's time window, or soon after it. -.006 / -.007.
        time_boost_after: How long after the window something still counts: people tell what happened last week. Of the
            evidence 90 % lies within.
        prior_weight: Of passages.informativeness. -.008 / -.015.
        list_depth: Entries of each list that are fused.
        follow_up_hits: How many of the first hits lend their words to a second search, where several memories have to be
            joined. -.002 / +.000.
        follow_up_weight: Of those words, beside the query's own.
        follow_up_seconds: What must be left until the deadline for a second search.
        time_expression_boost: What a memory gains that speaks of a time, where a time is asked for. -.002 / -.003.
        judged_question_weight: How much of the question view's lists still counts once the Selector has read the turn with that
            question: they guessed at what it knows. With 1 instead of 0 +.000 / -.014.
        fast, full: What the Selector reads in each mode. Without any +.000 / -.048; FULL instead of FAST +.011 / +.006.
        logit_weight: Of the Selector's logit beside the coarse score.
        highest_logit: The highest that the Selector gives; above it nothing is certain before it is judged.
        answer_reserve_seconds: Kept free before the deadline for ranking, packing and sending, until some answers told what
            they take.
        max_answer_reserve_seconds: How much of what an answer took after the Selector is learned from: a client that reads
            slowly must not cost others their Selector.
        guess_reserve_seconds: Kept free before the deadline, when hypothetical queries are written, for all that follows:
            about what a retrieval without them takes.
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
    max_answer_reserve_seconds: float = 0.02
    guess_reserve_seconds: float = 0.1
    coarse_floor_seconds: float = 0.005
