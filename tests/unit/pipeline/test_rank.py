import uuid

import pytest

from lightmem_server.pipeline.rank import drop_duplicates, drop_irrelevant, final_score, prefer_times, rank
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.types import Kind, Memory, Tier

TUNING = Tuning(logit_weight=0.2, judged_question_weight=0.0)


def candidate(
    coarse_rank: int, coarse_score: float, logit: float | None = None, text: str = "", speaker: str = ""
) -> Candidate:
    memory = Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, text or str(coarse_rank), 0, 0, speaker=speaker)
    return Candidate(memory.id, coarse_rank, coarse_score, {}, memory=memory, logit=logit)


def test_the_selector_can_lift_a_candidate_over_a_better_coarse_one() -> None:
    ranked = rank([candidate(1, 2.0, -5.0), candidate(2, 1.5, 5.0)], TUNING)
    assert [c.coarse_rank for c in ranked] == [2, 1]
    assert [round(c.score, 6) for c in ranked] == [2.5, 1.0]


def test_what_was_not_judged_keeps_its_coarse_order_behind_what_was() -> None:
    ranked = rank([candidate(1, 3.0, -9.0), candidate(2, 2.9, -1.0), candidate(3, 2.8), candidate(4, 2.7)], TUNING)
    assert [c.coarse_rank for c in ranked] == [2, 1, 3, 4]
    assert all(0 < (c.relevance or 0.0) < 1 for c in ranked)


def test_a_judgement_behind_a_gap_changes_no_order() -> None:
    ranked = rank([candidate(1, 3.0), candidate(2, 2.0, 9.0), candidate(3, 1.0, 9.0)], TUNING)
    assert [c.coarse_rank for c in ranked] == [1, 2, 3]


def test_a_dropped_candidate_is_no_gap() -> None:
    gone = candidate(1, 3.0)
    gone.drop_reason = DropReason.GONE
    ranked = rank([gone, candidate(2, 2.0, 1.0), candidate(3, 1.9, 5.0)], TUNING)
    assert [c.coarse_rank for c in ranked] == [1, 3, 2]


def test_relevance_is_a_probability_for_any_logit() -> None:
    ranked = rank([candidate(1, 1.0, 1e9), candidate(2, 1.0, 0.0), candidate(3, 1.0, -1e9)], TUNING)
    first, second, third = (c.relevance or 0.0 for c in ranked)
    assert 1 >= first > second > third >= 0


def test_relevance_rises_with_the_coarse_score_judged_or_not() -> None:
    for logit in (None, 0.0):
        low, high = (rank([candidate(1, score, logit)], TUNING)[0].relevance or 0.0 for score in (4.0, 6.0))
        assert 0 < low < high < 1


def test_equal_scores_keep_the_coarse_order() -> None:
    assert [c.coarse_rank for c in rank([candidate(1, 1.0, 1.0), candidate(2, 1.0, 1.0)], TUNING)] == [1, 2]


def test_the_same_words_of_the_same_speaker_come_once() -> None:
    ranked = [
        candidate(1, 1.0, text="I like tea.", speaker="Ana"),
        candidate(2, 0.9, text="i  like TEA.", speaker="Ana"),
        candidate(3, 0.8, text="I like tea.", speaker="Ben"),
    ]
    drop_duplicates(ranked)
    assert [c.drop_reason for c in ranked] == [None, DropReason.DUPLICATE, None]
    assert ranked[1].duplicate_of == ranked[0].memory_id


def test_what_the_question_lists_guessed_no_longer_counts_once_it_is_judged() -> None:
    guessed = candidate(1, 5.0, 1.0)
    guessed.parts = {"dense_question": 1.0, "lexical_question": 0.5, "dense_window": 0.7}
    assert final_score(guessed, TUNING) == pytest.approx(5.0 - 1.5 + 0.2)
    guessed.logit = None
    assert final_score(guessed, TUNING) == 5.0


def test_memories_that_speak_of_a_time_rise_when_a_time_is_asked_for() -> None:
    ordered = prefer_times([candidate(1, 3.0, text="I like it"), candidate(2, 2.8, text="I went there last week")], 0.5)
    assert [(c.coarse_rank, round(c.coarse_score, 6)) for c in ordered] == [(1, 3.3), (2, 3.0)]
    assert ordered[0].parts["time_expression"] == 1.0


def test_what_is_less_relevant_than_asked_is_dropped() -> None:
    ranked = rank([candidate(1, 6.0, 9.0), candidate(2, 2.9, -9.0)], TUNING)
    drop_irrelevant(ranked, 0.5)
    assert [c.drop_reason for c in ranked] == [None, DropReason.MIN_RELEVANCE]
