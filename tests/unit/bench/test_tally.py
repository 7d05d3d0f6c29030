from __future__ import annotations

import asyncio
import time

from lightmem_client import LightMemError, OverloadedError, UnavailableError

from tests.bench.tally import Tally


async def fail(error: LightMemError) -> None:
    raise error


async def test_what_failed_is_counted_by_status_and_reason_and_not_among_the_answers() -> None:
    tally, now = Tally(), time.perf_counter()
    assert (await tally.count(asyncio.sleep(0), now - 1)).status == "OK"
    ended = await tally.count(fail(OverloadedError("full", reason="OVERLOADED", retry_after_seconds=1)), now - 5)
    assert (ended.status, ended.seconds >= 5) == ("RESOURCE_EXHAUSTED", True)
    await tally.count(fail(OverloadedError("full", reason="OVERLOADED")), now - 5)
    await tally.count(fail(UnavailableError("gone")), now - 5)
    tally.count_not_sent()
    assert tally.statuses == {"OK": 1, "RESOURCE_EXHAUSTED": 2, "UNAVAILABLE": 1, "NOT_SENT": 1}
    assert tally.reasons == {"RESOURCE_EXHAUSTED OVERLOADED": 2, "UNAVAILABLE": 1}
    assert tally.without_retry_info == 1
    assert (len(tally.answered), len(tally.failed), len(tally.late)) == (1, 3, 4)


async def test_what_the_generator_was_late_counts_as_latency_and_is_told() -> None:
    tally = Tally()
    assert (await tally.count(asyncio.sleep(0), time.perf_counter() - 2)).seconds >= 2
    assert (tally.answered.percentile_ms(1) or 0) >= 1999
    assert (tally.late.percentile_ms(1) or 0) >= 1999
