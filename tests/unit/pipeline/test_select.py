import time
import uuid
from collections.abc import Sequence

import pytest

from lightmem_server.pipeline.retrieval import Budget, Candidate, DropReason, RetrieveQuery, SelectorMode, SelectorStop
from lightmem_server.pipeline.select import CHUNK, is_certain, select, within
from lightmem_server.pipeline.tuning import JudgedLimits, Tuning
from lightmem_server.slm.controller import make_plan
from lightmem_server.slm.fakes import OverlapSelector
from lightmem_server.types import Kind, Memory, Partition, Tier

PLAN = make_plan("green tea", [], asked_at=0)
TUNING = Tuning(logit_weight=0.2, highest_logit=10.0)


def candidates(scores: Sequence[float], *, tokens: int = 5) -> list[Candidate]:
    made = []
    for rank, score in enumerate(scores, start=1):
        memory = Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, f"tea {rank}", 0, 0, token_count=tokens)
        made.append(Candidate(memory.id, rank, score, {}, memory=memory))
    return made


def query(mode: SelectorMode, *, max_memories: int = 10, deadline_seconds: float = 5.0) -> RetrieveQuery:
    budget = Budget(max_memories, 32, 1000, deadline_seconds)
    return RetrieveQuery(Partition("n", "u"), "green tea", budget, 0, time.monotonic(), selector_mode=mode)


async def test_off_judges_nothing() -> None:
    found = candidates([1.0])
    assert await select(query(SelectorMode.OFF), PLAN, found, OverlapSelector(), TUNING) is SelectorStop.OFF
    assert found[0].logit is None


async def test_a_mode_judges_the_best_as_far_as_its_tokens_go() -> None:
    for mode, most in ((SelectorMode.FAST, TUNING.fast), (SelectorMode.FULL, TUNING.full)):
        found = candidates([1.0] * 40)
        assert await select(query(mode), PLAN, found, OverlapSelector(), TUNING) is SelectorStop.DONE
        assert [c.logit is not None for c in found] == [True] * most.candidates + [False] * (40 - most.candidates)


def test_long_memories_are_judged_fewer_of_but_some() -> None:
    limits = JudgedLimits(tokens=100, candidates=12, at_least=3)
    assert len(within(limits, PLAN, candidates([1.0] * 20, tokens=14))) == 5  # 14, the query's 2.25 and 3 for the pair
    assert len(within(limits, PLAN, candidates([1.0] * 20, tokens=500))) == 3
    assert len(within(limits, PLAN, candidates([1.0] * 2))) == 2


async def test_what_was_dropped_is_passed_over() -> None:
    found = candidates([2.0, 1.0])
    found[0].drop_reason = DropReason.IN_CONTEXT
    await select(query(SelectorMode.FAST), PLAN, found, OverlapSelector(), TUNING)
    assert [c.logit is not None for c in found] == [False, True]


async def test_it_stops_when_the_best_can_no_longer_change() -> None:
    found = candidates([9.0] * CHUNK + [1.0] * 12)
    asked = query(SelectorMode.FULL, max_memories=CHUNK)
    assert await select(asked, PLAN, found, OverlapSelector(), TUNING) is SelectorStop.CERTAIN
    assert sum(c.logit is not None for c in found) == CHUNK


async def test_it_goes_on_while_another_could_still_enter() -> None:
    found = candidates([9.0] * CHUNK + [8.0] * 12)
    assert await select(query(SelectorMode.FULL, max_memories=2), PLAN, found, OverlapSelector(), TUNING) is (
        SelectorStop.DONE
    )


class CountingSelector(OverlapSelector):
    """How many passages each call judged."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    async def judge(self, query: str, passages: Sequence[str], *, deadline: float | None = None) -> list[float | None]:
        self.calls.append(len(passages))
        return await super().judge(query, passages, deadline=deadline)


async def test_it_looks_only_where_something_can_be_certain() -> None:
    selector = CountingSelector()
    await select(query(SelectorMode.FULL, max_memories=10), PLAN, candidates([9.0] * 24), selector, TUNING)
    assert selector.calls == [16, 8]


async def test_a_deadline_that_came_is_said() -> None:
    found = candidates([1.0] * 4)
    asked = query(SelectorMode.FAST, deadline_seconds=0.0)
    assert await select(asked, PLAN, found, OverlapSelector(), TUNING) is SelectorStop.DEADLINE


@pytest.mark.parametrize(("rest", "certain"), [([3.0], True), ([3.1], False), ([1.0, 3.1], False)])
def test_certainty_reckons_with_the_highest_logit(rest: list[float], certain: bool) -> None:
    judged = candidates([5.0, 5.0])
    for candidate in judged:
        candidate.logit = 0.0
    assert is_certain(judged, candidates(rest), 2, TUNING) is certain


def test_with_too_few_judged_nothing_is_certain() -> None:
    assert not is_certain(candidates([5.0]), candidates([0.0]), 2, TUNING)
