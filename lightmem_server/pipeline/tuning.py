"""The constants of retrieval, each in one place, with what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class JudgedLimits:
    """What the Selector reads in one mode: the best candidates within so many tokens, at most `candidates` of them, and
    at least `at_least`, however long they are."""

    tokens: int
    candidates: int
    at_least: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Log-odds that a candidate answers = bias + coarse * coarse score + logit * the Selector's logit."""

    bias: float
    coarse: float
    logit: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """The constants of retrieval. What one is worth is what is lost without it: R@10 / MRR of `make bench-ablation` on LoCoMo,
    1,977 questions, where all parts reach .846 / .726 in mode FAST.

    The weights are equal or round on purpose. The older ones were chosen with a NumPy reference of this formula, without
    the Selector: fitted to nine dialogues and judged on the tenth .845 / .672, the worst of 192 settings around these .817 /
    .637. On FriendsQA, where nothing was chosen, that reference had .683 / .512, reciprocal ranks of four lists .586 / .437.

    Attributes:
        dense_weights, lexical_weights: Of each passage view's list in the fusion (passages.VIEW_NAMES). Without vectors
            -.032 / -.035, without words -.040 / -.040, without the question view -.008 / -.011, the window view -.024 / -.022.
        session_weight: Of the whole session's words. -.014 / -.011.
        speaker_boost: What a memory gains whose speaker the query names. -.009 / -.011.
        time_boost: What a memory gains that was said inside the query's time window, or soon after it. -.006 / -.008.
        time_boost_after: How long after the window something still counts: people tell what happened last week. Of the
            evidence 90 % lies within.
        prior_weight: Of passages.informativeness. -.008 / -.014.
        link_weight: Of what the best hits pass on to what is linked to them, a fact to the turns that it rests on and they to
            it, in equal shares (spreading activation with a fan-out; Collins and Loftus 1975, Crestani 1997). The first of
            several hits scores about five, so that a sole link of it is worth what being the best of one list is.
        heat_weight: Of the access heat h, as h / (1 + h): the most that having been returned often and lately can add. A
            fiftieth of what the best of one list has: it parts equals, and lifts no memory over one that answers better.
        duplicate_similarity: Cosine in every passage view from which on a memory may repeat a better one of the same speaker;
            its words decide (repetition.py). Over 99 % of rewordings behind the same turn reach it, and short ones alone.
        repetition_from, repetition_whole: Mean cosine over the passage views beyond which two memories begin to repeat each
            other, and from which on one says nothing new, where several are asked for (diversity.py). Of the pairs of different
            evidence for one question over 99 % are below the first, and of all that is unlike; of paraphrases, each behind a
            turn of its own, 5 % are beyond .944 (`make bench-similarity`, FriendsQA).
        repetition_cost: What a memory's score loses there for saying nothing new: being the best of all four lists, which
            found it for what is known by then. 0: the order stays. +.001 / +.000.
        list_depth: Entries of each list that are fused.
        follow_up_hits: How many of the first hits lend their words to a second search, where several memories have to be
            joined. -.002 / +.000.
        follow_up_weight: Of those words, beside the query's own.
        follow_up_seconds: What must be left until the deadline for a second search.
        time_expression_boost: What a memory gains that speaks of a time, where a time is asked for. -.002 / -.003.
        judged_question_weight: How much of the question view's lists still counts once the Selector has read the turn with that
            question: they guessed at what it knows. With 1 instead of 0 +.000 / -.014.
        fast, full: What the Selector reads in each mode. Without any +.000 / -.047; FULL instead of FAST +.011 / +.007. FAST
            with 512 tokens instead of 448 would be worth +.000 / +.001, and take an eighth longer.
        logit_weight: Of the Selector's logit beside the coarse score.
        highest_logit: The highest that the Selector gives; above it nothing is certain before it is judged.
        answer_reserve_seconds: Kept free before the deadline for ranking, packing and sending, until some answers told what
            they take.
        max_answer_reserve_seconds: How much of what an answer took after the Selector is learned from: a client that reads
            slowly must not cost others their Selector.
        least_judgement_seconds: What it takes to fetch what the Selector reads and to read one passage; with less left before
            the deadline it is left out.
        fact_share, event_fact_share: Of an answer's memories and tokens, kept for facts where it is asked what is so, and
            what happened (room.py). Of the evidence 432 to 592 tokens hold +.010 (-.002 to +.023) by facts and turns instead of
            turns alone, with both 0 -.002 (-.010 to +.007); others within .002 (three dialogues of LoCoMo).
        fact_candidates: Facts that are searched for alone. With 1 instead of 8 512 tokens hold .013 less of the evidence.
        ended_margin: Of relevance, within which facts that say what ended answer alike: two allergies that are gone are .004
            apart where it is asked which there are, .8 where one is named.
        shared_candidates: Shared facts that the Selector reads, and the most that are returned, beside the user's own.
        shared_least_logit: What the Selector must give a shared fact to be returned. With the questions and facts of
            tests/e2e/test_sharing.py those that answer get -3.3 to 7.4, the others -5.0 and less.
        judged, not_judged: How likely a candidate answers (relevance.py), with and without the Selector's logit.
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
    link_weight: float = 0.2
    heat_weight: float = 0.02
    duplicate_similarity: float = 0.95
    repetition_from: float = 0.92
    repetition_whole: float = 0.96
    repetition_cost: float = 4.0
    list_depth: int = 100
    follow_up_hits: int = 2
    follow_up_weight: float = 0.2
    follow_up_seconds: float = 0.05
    time_expression_boost: float = 0.5
    judged_question_weight: float = 0.0
    highest_logit: float = 11.0
    fast: JudgedLimits = JudgedLimits(tokens=448, candidates=12, at_least=4)
    full: JudgedLimits = JudgedLimits(tokens=1280, candidates=24, at_least=8)
    logit_weight: float = 0.2
    answer_reserve_seconds: float = 0.004
    max_answer_reserve_seconds: float = 0.02
    least_judgement_seconds: float = 0.006
    fact_candidates: int = 8
    fact_share: float = 0.2
    event_fact_share: float = 0.1
    ended_margin: float = 0.05
    shared_candidates: int = 3
    shared_least_logit: float = -4.0
    judged: Calibration = Calibration(bias=-9.36, coarse=1.38, logit=0.137)
    not_judged: Calibration = Calibration(bias=-12.1, coarse=1.85, logit=0.0)
    guess_reserve_seconds: float = 0.1
    coarse_floor_seconds: float = 0.005


REFERENCE_SELECTOR = "ms-marco-MiniLM-L-12-v2"
"""Whose logits and speed the constants of Tuning() are for."""

TUNINGS: Mapping[str, Tuning] = {
    REFERENCE_SELECTOR: Tuning(),
    # Its logits are log-odds, and spread 1.28 within a list of dialogue turns where the reference's spread 3.85 (560 lists that
    # it did not learn from): the same weight in units of that spread. The highest on them is 2.7. Shared facts that answer the
    # questions of tests/e2e/test_sharing.py get -1.9 and more, the others -3.2 and less. It reads a token in .31 of the time.
    # In FAST with 1,280 tokens instead of 1,024 +.002 / +.001 on LoCoMo, and a quarter more of the Selector's time.
    "lightmem-selector-l4": replace(
        Tuning(),
        fast=JudgedLimits(tokens=1024, candidates=24, at_least=8),
        full=JudgedLimits(tokens=2560, candidates=48, at_least=16),
        logit_weight=0.6,
        highest_logit=4.0,
        shared_least_logit=-2.6,
        judged=Calibration(bias=-8.55, coarse=1.38, logit=0.6),
    ),
}
"""By the Selector's name, since each has a scale of its own."""


def tuning_for(selector: str) -> Tuning:
    """The constants that belong to a Selector; of one that isn't known here, those of the reference."""
    return TUNINGS.get(selector, TUNINGS[REFERENCE_SELECTOR])
