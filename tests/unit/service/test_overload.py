"""A whole server with more to do than it can: refusals that say when to retry, and places that come back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from lightmem_server.pb import memory_pb2, memory_service_pb2_grpc
from lightmem_server.pb import memory_service_pb2 as pb
from lightmem_server.slm.fakes import HashEmbedder
from tests.live_server import ENDED_SECONDS, FakeModels, LiveServer
from tests.wire import Answer, call

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class HeldEmbedder(HashEmbedder):
    """Queries come to a gate, which tests close and open."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.opened.set()
        self.held = threading.Semaphore(0)
        """Released by every query that finds the gate closed."""

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not self.opened.is_set():
            self.held.release()
            await asyncio.to_thread(self.opened.wait)
        return await super().embed_queries(texts)


class Overloaded:
    """A server whose Retrieves are held, and who calls it."""

    def __init__(self, folder: Path, **flags: object) -> None:
        self.embedder = HeldEmbedder()
        self.live = LiveServer(folder, models=lambda: FakeModels(embedder=self.embedder), **flags)
        self.callers = ThreadPoolExecutor(32)
        self.channel: grpc.Channel

    def retrieve(self, user: str = "ana", **options: Any) -> Answer:
        request = pb.RetrieveRequest(scope=memory_pb2.Scope(user_id=user, session_id="s"), query="What did I say?")
        return call(self.channel, "Retrieve", request, self.live.key, **options)

    def hold(self, count: int) -> list[Any]:
        """So many Retrieves of ana; returns when all that get a turn are held."""
        return [self.callers.submit(self.retrieve) for _ in range(count)]

    def wait_held(self, count: int) -> None:
        for _ in range(count):
            assert self.embedder.held.acquire(timeout=ENDED_SECONDS)

    def wait_inflight(self, count: int) -> None:
        """Until so many requests hold a place."""
        seen = threading.Event()
        while self.live.server.admission.request_count != count:
            seen.wait(0.005)


@contextlib.contextmanager
def overloaded(folder: Path, **flags: object) -> Iterator[Overloaded]:
    one = Overloaded(folder, **flags)
    with one.live, grpc.insecure_channel(one.live.address) as channel:
        one.channel = channel
        yield one
        one.embedder.opened.set()
        one.callers.shutdown()


def _status_of(one_call: Any) -> grpc.StatusCode:
    """How a call that was begun ends."""
    with contextlib.suppress(grpc.RpcError):
        list(one_call)
    return one_call.code()  # type: ignore[no-any-return]


def test_a_flood_is_refused_with_a_time_to_retry_and_another_user_comes_in(tmp_path: Path) -> None:
    with overloaded(tmp_path, max_inflight_requests=4, max_inflight_per_user=4, max_working_per_user=1) as one:
        one.embedder.opened.clear()
        held = one.hold(4)
        one.wait_held(1)
        one.wait_inflight(4)
        refused = one.retrieve()
        assert (refused.status, refused.reason) == (EXHAUSTED, "OVERLOADED")
        assert (refused.retry_seconds or 0) > 0
        other = one.callers.submit(one.retrieve, "bob")
        one.wait_held(1)
        one.embedder.opened.set()
        assert other.result().status is grpc.StatusCode.OK
        statuses = sorted(answer.result().status.name for answer in held)
        assert statuses == ["OK", "OK", "OK", "RESOURCE_EXHAUSTED"]


def test_a_burst_is_refused_before_the_work_is_done_that_others_wait_for(tmp_path: Path) -> None:
    """What came at once is let in or refused before turns are given again: what nobody looked at would wait for nothing, out of
    reach of every bound, until its caller's deadline."""
    count, places = 600, 16
    with overloaded(tmp_path, max_inflight_requests=places) as one:
        users = [f"user-{number}" for number in range(8)]
        for user in users:
            turns = [memory_pb2.Turn(text=f"I said {i} and then something else, {i} times.") for i in range(60)]
            write = pb.WriteRequest(scope=memory_pb2.Scope(user_id=user), turns=turns)
            assert call(one.channel, "Write", write, one.live.key).status is grpc.StatusCode.OK
            assert one.retrieve(user).status is grpc.StatusCode.OK
        stub = memory_service_pb2_grpc.MemoryServiceStub(one.channel)
        metadata = (("authorization", f"Bearer {one.live.key}"),)
        requests = [
            pb.RetrieveRequest(scope=memory_pb2.Scope(user_id=users[i % len(users)]), query="What did I say?")
            for i in range(count)
        ]
        with one.live.stopped():
            calls = [stub.Retrieve(request, metadata=metadata) for request in requests]
        statuses = Counter(_status_of(one_call) for one_call in calls)
        assert set(statuses) == {grpc.StatusCode.OK, EXHAUSTED}
        assert statuses[grpc.StatusCode.OK] >= places
        assert statuses[EXHAUSTED] > count / 2


def test_who_waits_too_long_for_a_turn_is_refused(tmp_path: Path) -> None:
    with overloaded(tmp_path, max_queue_seconds=0.05, max_working_per_user=1) as one:
        one.embedder.opened.clear()
        one.hold(1)
        one.wait_held(1)
        refused = one.retrieve()
        assert (refused.status, refused.reason) == (EXHAUSTED, "OVERLOADED")
        assert "no turn came" in refused.message
        assert (refused.retry_seconds or 0) > 0


@pytest.mark.parametrize("count", [1, 2], ids=["at work", "waiting too"])
def test_clients_that_vanish_give_their_places_back(tmp_path: Path, count: int) -> None:
    with overloaded(tmp_path, max_inflight_requests=4, max_working_per_user=1) as one:
        one.embedder.opened.clear()
        stub = memory_service_pb2_grpc.MemoryServiceStub(one.channel)
        request = pb.RetrieveRequest(scope=memory_pb2.Scope(user_id="ana"), query="x")
        metadata = (("authorization", f"Bearer {one.live.key}"),)
        calls = [stub.Retrieve(request, metadata=metadata) for _ in range(count)]
        one.wait_held(1)
        one.wait_inflight(count)
        for one_call in calls:
            one_call.cancel()
        one.wait_inflight(0)
        one.embedder.opened.set()
        assert one.retrieve().status is grpc.StatusCode.OK


def test_a_reader_that_does_not_read_loses_its_turn_and_its_place(tmp_path: Path) -> None:
    with overloaded(tmp_path, max_send_seconds=2, stm_tokens=100_000, max_working_per_user=1) as one:
        turns = [memory_pb2.Turn(text="far too much " * 2000) for _ in range(20)]
        scope = memory_pb2.Scope(user_id="ana", session_id="s")
        write = pb.WriteRequest(scope=scope, turns=turns)
        assert call(one.channel, "Write", write, one.live.key).status is grpc.StatusCode.OK
        small = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
        channel = grpc.insecure_channel(one.live.address, options=small)
        stub = memory_service_pb2_grpc.MemoryServiceStub(channel)
        request = pb.RetrieveRequest(scope=scope, query="x", budget=pb.RetrievalBudget(max_memories=1))
        unread = stub.Retrieve(request, metadata=(("authorization", f"Bearer {one.live.key}"),))
        one.wait_inflight(1)
        one.wait_inflight(0)
        assert one.retrieve().status is grpc.StatusCode.OK, "the only turn of this user came free"
        with pytest.raises(grpc.RpcError) as caught:
            list(unread)
        assert caught.value.code() is EXHAUSTED
        channel.close()


def test_calls_that_do_not_end_do_not_hold_up_the_drain(tmp_path: Path) -> None:
    with overloaded(tmp_path, drain_seconds=0.2) as one:
        one.embedder.opened.clear()
        (held,) = one.hold(1)
        one.wait_held(1)
        one.live.run(one.live.server.stop())
        assert held.result().status in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def test_a_connection_full_of_open_streams_is_told_so_and_still_asks(tmp_path: Path) -> None:
    """HTTP/2 has a limit of its own, of calls on one connection. Beyond it a call waits in the client and hears nothing."""
    with overloaded(tmp_path, max_streams_per_key=3, max_inflight_requests=2, max_inflight_per_user=2) as one:
        ended = threading.Event()
        stub = memory_service_pb2_grpc.MemoryServiceStub(one.channel)
        write = pb.WriteRequest(scope=memory_pb2.Scope(user_id="ana"), turns=[memory_pb2.Turn(text="I moved")])

        def requests() -> Iterator[pb.WriteRequest]:
            yield write
            ended.wait(ENDED_SECONDS)

        streams = [stub.Write(requests(), metadata=(("authorization", f"Bearer {one.live.key}"),)) for _ in range(3)]
        try:
            for stream in streams:
                assert next(stream).memory_ids
            refused = call(one.channel, "Write", write, one.live.key)
            assert (refused.status, refused.reason) == (EXHAUSTED, "TOO_MANY_STREAMS")
            assert (refused.retry_seconds or 0) > 0
            one.embedder.opened.clear()
            held = one.hold(2)
            one.wait_held(1)
            one.wait_inflight(2)
            assert one.retrieve("bob").status is EXHAUSTED, "told by us, with all places on the connection taken"
            one.embedder.opened.set()
            assert {answer.result().status for answer in held} == {grpc.StatusCode.OK}
        finally:
            ended.set()
        for stream in streams:
            assert list(stream) == []
