from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import grpc
import pytest
from clients.python.tests.conftest import FAST
from clients.python.tests.peer import KEY, Failure, Peer

from lightmem_client import (
    AsyncClient,
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    UnavailableError,
    WriteAbandonedError,
)

LOST = Failure(grpc.StatusCode.UNAVAILABLE, is_late=True)


@pytest.fixture
async def aclient(peer: Peer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(peer.target, api_key=KEY, user_id="ann", timeout_seconds=10, retry=FAST) as client:
        yield client


async def test_acknowledgements_come_in_order_over_one_stream(aclient: AsyncClient, peer: Peer) -> None:
    async with aclient.open_writer(session_id="s1") as writer:
        pending = [await writer.send(f"turn {number}") for number in range(100)]
        results = [await one for one in pending]
    assert peer.texts("ann") == [f"turn {number}" for number in range(100)]
    assert [result.memory_ids[0] for result in results] == [memory.id for memory in peer.memories["ann"]]
    assert peer.calls["Write"] == 1


async def test_leaving_the_block_flushes(aclient: AsyncClient, peer: Peer) -> None:
    async with aclient.open_writer() as writer:
        pending = await writer.send(["a", "b"])
    assert pending.is_done
    assert peer.texts("ann") == ["a", "b"]


async def test_connection_lost_before_the_acknowledgement_stores_nothing_twice(
    aclient: AsyncClient, peer: Peer
) -> None:
    peer.fail("Write", LOST, LOST, LOST)
    async with aclient.open_writer() as writer:
        pending = [await writer.send(f"turn {number}") for number in range(20)]
    assert peer.texts("ann") == [f"turn {number}" for number in range(20)]
    assert True in [(await one).is_replay for one in pending]
    assert peer.calls["Write"] >= 4


async def test_writer_outlives_a_restart_of_the_server(aclient: AsyncClient, peer: Peer) -> None:
    async with aclient.open_writer() as writer:
        await (await writer.send("before"))
        await asyncio.to_thread(peer.stop)
        pending = await writer.send("between")
        peer.start()
        await pending
        await writer.send("after")
    assert peer.texts("ann") == ["before", "between", "after"]


async def test_full_window_makes_send_wait(aclient: AsyncClient, peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    async with aclient.open_writer(max_in_flight=2) as writer:
        await writer.send("a")
        await writer.send("b")
        with pytest.raises(DeadlineExceededError):
            await writer.send("c", timeout_seconds=0.05)
        peer.holds_writes.set()
        await writer.send("d", timeout_seconds=10)
    assert peer.texts("ann") == ["a", "b", "d"]


async def test_refused_request_ends_the_writer_and_those_before_it_are_stored(aclient: AsyncClient, peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    writer = aclient.open_writer()
    good, bad, behind = await writer.send("good"), await writer.send(" "), await writer.send("behind")
    peer.holds_writes.set()
    assert (await good).memory_ids
    with pytest.raises(InvalidArgumentError):
        await bad
    with pytest.raises(WriteAbandonedError):
        await behind
    with pytest.raises(WriteAbandonedError):
        await writer.send("later")
    with pytest.raises(InvalidArgumentError):
        await writer.close()
    assert peer.texts("ann") == ["good"]


async def test_server_that_stays_away_is_given_up(peer: Peer) -> None:
    await asyncio.to_thread(peer.stop)
    async with AsyncClient(peer.target, api_key=KEY, user_id="ann", timeout_seconds=0.5, retry=FAST) as client:
        writer = client.open_writer()
        pending = await writer.send("x")
        with pytest.raises(UnavailableError):
            await pending
        with pytest.raises(UnavailableError):
            await writer.close()


async def test_close_keeps_its_timeout(aclient: AsyncClient, peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    writer = aclient.open_writer()
    pending = await writer.send("x")
    with pytest.raises(DeadlineExceededError):
        await writer.close(timeout_seconds=0.05)
    with pytest.raises(CancelledError):
        await pending
    with pytest.raises(WriteAbandonedError):
        await writer.send("y")
    peer.holds_writes.set()


async def test_closing_the_client_fails_what_is_on_its_way(peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    client = AsyncClient(peer.target, api_key=KEY, user_id="ann", timeout_seconds=10, retry=FAST)
    writer = client.open_writer()
    pending = await writer.send("x")
    await asyncio.to_thread(peer.arrived.wait)
    await client.close()
    with pytest.raises(CancelledError):
        await pending
    peer.holds_writes.set()


async def test_whoever_stops_waiting_does_not_take_the_request_back(aclient: AsyncClient, peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    async with aclient.open_writer() as writer:
        pending = await writer.send("x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pending, 0.02)
        peer.holds_writes.set()
        assert (await pending).memory_ids
    assert peer.texts("ann") == ["x"]
