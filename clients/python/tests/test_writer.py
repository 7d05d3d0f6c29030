from __future__ import annotations

import threading

import grpc
import pytest
from clients.python.tests.conftest import FAST
from clients.python.tests.peer import KEY, Failure, Peer

from lightmem_client import (
    AlreadyExistsError,
    CancelledError,
    Client,
    DeadlineExceededError,
    InvalidArgumentError,
    Turn,
    UnauthenticatedError,
    UnavailableError,
    WriteAbandonedError,
)

LOST = Failure(grpc.StatusCode.UNAVAILABLE, is_late=True)


def test_acknowledgements_come_in_order_over_one_stream(client: Client, peer: Peer) -> None:
    with client.open_writer(session_id="s1") as writer:
        pending = [writer.send(f"turn {number}") for number in range(100)]
        results = [one.result(timeout_seconds=10) for one in pending]
    assert peer.texts("ann") == [f"turn {number}" for number in range(100)]
    assert [result.memory_ids[0] for result in results] == [memory.id for memory in peer.memories["ann"]]
    assert [result.request_id for result in results] == [one.request_id for one in pending]
    assert peer.calls["Write"] == 1


def test_leaving_the_block_flushes(client: Client, peer: Peer) -> None:
    with client.open_writer() as writer:
        pending = writer.send(["a", Turn("b")])
    assert pending.is_done
    assert peer.texts("ann") == ["a", "b"]


def test_opening_a_writer_without_sending_does_nothing(client: Client, peer: Peer) -> None:
    with client.open_writer():
        pass
    assert peer.calls["Write"] == 0


def test_connection_lost_before_the_acknowledgement_stores_nothing_twice(client: Client, peer: Peer) -> None:
    peer.fail("Write", LOST, LOST, LOST)  # each stream stores a request that it never acknowledges
    with client.open_writer() as writer:
        pending = [writer.send(f"turn {number}") for number in range(20)]
    assert peer.texts("ann") == [f"turn {number}" for number in range(20)]
    results = [one.result() for one in pending]
    assert [result.memory_ids[0] for result in results] == [memory.id for memory in peer.memories["ann"]]
    assert any(result.is_replay for result in results)
    assert peer.calls["Write"] >= 4


def test_writer_outlives_a_restart_of_the_server(client: Client, peer: Peer) -> None:
    with client.open_writer() as writer:
        writer.send("before").result(timeout_seconds=10)
        peer.stop()
        pending = writer.send("between")
        peer.start()
        pending.result(timeout_seconds=10)
        writer.send("after")
    assert peer.texts("ann") == ["before", "between", "after"]


def test_overload_is_waited_out(client: Client, peer: Peer) -> None:
    peer.fail("Write", Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_seconds=0.01))
    with client.open_writer() as writer:
        writer.send("x")
    assert peer.texts("ann") == ["x"]


def test_full_window_makes_send_wait(client: Client, peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    with client.open_writer(max_in_flight=2) as writer:
        writer.send("a")
        writer.send("b")
        with pytest.raises(DeadlineExceededError):
            writer.send("c", timeout_seconds=0.05)
        peer.holds_writes.set()
        writer.send("d", timeout_seconds=10)
    assert peer.texts("ann") == ["a", "b", "d"]


def test_refused_request_ends_the_writer_and_those_before_it_are_stored(client: Client, peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    writer = client.open_writer()
    good, bad, behind = writer.send("good"), writer.send(" "), writer.send("behind")
    peer.holds_writes.set()
    assert good.result(timeout_seconds=10).memory_ids
    with pytest.raises(InvalidArgumentError) as caught:
        bad.result(timeout_seconds=10)
    assert caught.value.field == "turns[0].text"
    with pytest.raises(WriteAbandonedError) as abandoned:
        behind.result(timeout_seconds=10)
    assert abandoned.value.__cause__ is caught.value
    with pytest.raises(WriteAbandonedError):
        writer.send("later")
    with pytest.raises(InvalidArgumentError):
        writer.close()
    assert peer.texts("ann") == ["good"]


def test_reused_request_id_is_refused(client: Client) -> None:
    writer = client.open_writer()
    writer.send("x", request_id="r")
    writer.send("y", request_id="r")
    with pytest.raises(AlreadyExistsError):
        writer.close()


def test_wrong_key_fails_the_request(peer: Peer) -> None:
    with Client(peer.target, api_key="lm_wrong", user_id="ann") as client:
        writer = client.open_writer()
        with pytest.raises(UnauthenticatedError):
            writer.send("x").result(timeout_seconds=10)
        with pytest.raises(UnauthenticatedError):
            writer.close()


def test_server_that_stays_away_is_given_up(peer: Peer) -> None:
    peer.stop()
    with Client(peer.target, api_key=KEY, user_id="ann", timeout_seconds=0.5, retry=FAST) as client:
        writer = client.open_writer()
        pending = writer.send("x")
        with pytest.raises(UnavailableError):
            pending.result(timeout_seconds=10)
        with pytest.raises(UnavailableError):
            writer.close()


def test_flush_and_close_keep_their_timeout(client: Client, peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    writer = client.open_writer()
    pending = writer.send("x")
    with pytest.raises(DeadlineExceededError):
        writer.flush(timeout_seconds=0.05)
    with pytest.raises(DeadlineExceededError):
        pending.result(timeout_seconds=0.05)
    with pytest.raises(DeadlineExceededError):
        writer.close(timeout_seconds=0.05)
    with pytest.raises(CancelledError):
        pending.result(timeout_seconds=10)
    peer.holds_writes.set()


def test_closed_writer_takes_nothing_in(client: Client) -> None:
    writer = client.open_writer()
    writer.close()
    writer.close()
    with pytest.raises(CancelledError):
        writer.send("x")


def test_value_that_cannot_be_sent_leaves_the_writer_usable(client: Client, peer: Peer) -> None:
    with client.open_writer() as writer:
        with pytest.raises(InvalidArgumentError):
            writer.send([])
        writer.send("fine")
    assert peer.texts("ann") == ["fine"]


def test_error_inside_the_block_is_the_one_that_leaves_it(client: Client) -> None:
    def fail() -> None:
        with client.open_writer() as writer:
            writer.send(" ")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()


def test_closing_the_client_fails_what_is_on_its_way(peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    client = Client(peer.target, api_key=KEY, user_id="ann", timeout_seconds=10, retry=FAST)
    writer = client.open_writer()
    pending = writer.send("x")
    peer.arrived.wait()
    client.close()
    with pytest.raises(CancelledError):
        pending.result(timeout_seconds=10)
    peer.holds_writes.set()


def test_several_threads_may_send(client: Client, peer: Peer) -> None:
    with client.open_writer(max_in_flight=3) as writer:
        threads = [
            threading.Thread(target=lambda i=i: [writer.send(f"{i}.{j}") for j in range(20)])  # type: ignore[misc]
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(peer.texts("ann"))) == 80
