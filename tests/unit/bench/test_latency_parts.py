from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lightmem_server.slm.fakes import OverlapSelector
from tests.bench.latency_parts import judge_busily


class YieldingSelector(OverlapSelector):
    """Lets the others have a turn while it judges, as a model in a thread does, and counts for itself."""

    judged_count = 0

    async def judge(self, query: str, passages: Sequence[str], *, deadline: float | None = None) -> list[float | None]:
        await asyncio.sleep(0)
        scores = await super().judge(query, passages, deadline=deadline)
        self.judged_count += len(scores)
        return scores


async def test_no_judgement_of_concurrent_callers_is_lost_in_the_count() -> None:
    selector = YieldingSelector()
    count, seconds = await judge_busily(selector, [("a", ["a", "b"]), ("b", ["a", "b", "c"])], callers=16, seconds=0.02)
    assert count == selector.judged_count > 0
    assert seconds >= 0.02
