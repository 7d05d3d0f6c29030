from __future__ import annotations

import asyncio
import contextlib

import pytest

from lightmem_server.config import load
from lightmem_server.errors import OverloadedError
from lightmem_server.service.admission import Admission
from lightmem_server.service.fair import FairQueue

ANA, BOB = ("default", "ana"), ("default", "bob")


def make(*, requests: int = 1, per_user: int = 4, streams: int = 2, per_key: int = 1) -> Admission:
    queue = FairQueue(max_working=1, max_working_per_owner=1, max_wait_seconds=60)
    return Admission(
        max_requests=requests,
        max_requests_per_user=per_user,
        max_streams=streams,
        max_streams_per_key=per_key,
        reads=queue,
        writes=queue,
    )


def test_requests_beyond_the_limit_are_refused_until_one_ends() -> None:
    admission = make()
    with admission.request(ANA), pytest.raises(OverloadedError), admission.request(BOB):
        pass
    with admission.request(ANA):
        pass


def test_one_user_holds_at_most_a_share_of_the_places() -> None:
    admission = make(requests=2, per_user=1)
    with admission.request(ANA):
        with pytest.raises(OverloadedError, match="of this user"), admission.request(ANA):
            pass
        with admission.request(BOB):
            pass


def test_streams_are_counted_per_key_and_in_all() -> None:
    admission = make()
    with admission.stream("a"):
        with pytest.raises(OverloadedError, match="open streams"), admission.stream("a"):
            pass
        with admission.stream("b"), pytest.raises(OverloadedError, match="are open"), admission.stream("c"):
            pass
    with admission.stream("a"):
        pass


async def test_where_places_run_out_a_flood_makes_room_for_another_user() -> None:
    """Of the 4 places ana has all, with 3 that wait: her newest goes, and bob's call comes in; hers doesn't."""
    admission = make(requests=4)

    async def call(owner: tuple[str, str]) -> None:
        with admission.request(owner):
            async with admission.reads.turn(owner):
                await ended.wait()

    ended = asyncio.Event()
    flood = [asyncio.create_task(call(ANA)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await call(ANA)
    other = asyncio.create_task(call(BOB))
    await asyncio.wait({flood[3]})
    assert isinstance(flood[3].exception(), OverloadedError)
    ended.set()
    await asyncio.gather(*flood[:3], other)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(admission.request(BOB))


def test_limits_come_from_the_settings() -> None:
    admission = Admission.from_settings(load({"max_streams": 1, "max_inflight_requests": 1}, environment={}))
    with admission.stream("a"), pytest.raises(OverloadedError), admission.stream("b"):
        pass
    with admission.request(ANA), pytest.raises(OverloadedError), admission.request(BOB):
        pass
