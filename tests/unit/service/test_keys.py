"""Keys through a whole server: rotation, expiry, revocation, also of calls that are open, and failures."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from lightmem_client import Client
from lightmem_client.errors import FailedPreconditionError, NotFoundError, UnauthenticatedError

from lightmem_server.pb import admin_service_pb2 as admin
from lightmem_server.pb import memory_pb2, memory_service_pb2_grpc
from lightmem_server.pb import memory_service_pb2 as pb
from tests.live_server import LiveServer
from tests.wire import call

DAY_MICROS = 86_400_000_000
LIST = pb.ListMemoriesRequest(scope=memory_pb2.Scope(user_id="ana"))


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path, max_auth_failures_per_minute=20) as live:
        yield live


@pytest.fixture
def client(live: LiveServer) -> Iterator[Client]:
    with Client(live.address, api_key=live.key, user_id="ana") as client:
        yield client


@pytest.fixture
def channel(live: LiveServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(live.address) as channel:
        yield channel


def works(channel: grpc.Channel, secret: str) -> bool:
    """Whether a key opens a user's list."""
    answer = call(channel, "ListMemories", LIST, secret)
    assert answer.status in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
    return answer.status is grpc.StatusCode.OK


def test_a_rotated_key_has_the_same_rights_and_the_old_one_ends_at_once(client: Client, channel: grpc.Channel) -> None:
    old = client.create_key(label="app", user_ids=["ana", "bob"])
    new = client.rotate_key(old.key.key_id)
    assert (new.key.label, new.key.user_ids, new.key.is_admin) == ("app", ("ana", "bob"), False)
    assert new.key.key_id != old.key.key_id
    assert works(channel, new.secret)
    assert not works(channel, old.secret)
    with pytest.raises(FailedPreconditionError, match="revoked"):
        client.rotate_key(old.key.key_id)
    with pytest.raises(NotFoundError):
        client.rotate_key("nobody")


def test_with_an_overlap_the_old_key_works_until_its_end(
    client: Client, channel: grpc.Channel, live: LiveServer
) -> None:
    old = client.create_key()
    new = client.rotate_key(old.key.key_id, overlap_seconds=3600)
    assert works(channel, old.secret)
    live.ahead_micros += 3600 * 1_000_000
    assert not works(channel, old.secret)
    assert works(channel, new.secret)


def test_an_overlap_does_not_lengthen_a_keys_life(client: Client, channel: grpc.Channel, live: LiveServer) -> None:
    made = admin.CreateKeyRequest(key=admin.ApiKey())
    made.key.expires_at.GetCurrentTime()
    made.key.expires_at.seconds += 60
    (response,) = call(channel, "CreateKey", made, live.key).responses
    assert isinstance(response, admin.CreateKeyResponse)
    new = client.rotate_key(response.key.key_id, overlap_seconds=3600)
    assert new.key.expires_at is not None
    live.ahead_micros += 61 * 1_000_000
    assert not works(channel, response.secret)
    assert not works(channel, new.secret)


@pytest.mark.parametrize("overlap_seconds", [-1, 31 * 86_400])
def test_an_overlap_out_of_range_is_refused(channel: grpc.Channel, live: LiveServer, overlap_seconds: int) -> None:
    request = admin.RotateKeyRequest(key_id=live.key.split("_")[1])
    request.overlap.seconds = overlap_seconds
    answer = call(channel, "RotateKey", request, live.key)
    assert (answer.status, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OUT_OF_RANGE")


class OpenStream:
    """A Write stream that stays open between its requests."""

    def __init__(self, channel: grpc.Channel, secret: str) -> None:
        self._requests: queue.Queue[pb.WriteRequest | None] = queue.Queue()
        stub = memory_service_pb2_grpc.MemoryServiceStub(channel)
        metadata = (("authorization", f"Bearer {secret}"),)
        self._acks = stub.Write(iter(self._requests.get, None), metadata=metadata, timeout=20)

    def write(self, text: str) -> pb.WriteResponse:
        """Send a turn and wait for its ack."""
        turn = memory_pb2.Turn(text=text)
        self._requests.put(pb.WriteRequest(scope=memory_pb2.Scope(user_id="ana"), turns=[turn]))
        ack: pb.WriteResponse = next(self._acks)
        return ack

    def end(self) -> None:
        """Let the request side end."""
        self._requests.put(None)


@pytest.mark.parametrize("how", ["revoked", "rotated", "expired"])
def test_an_open_stream_ends_at_the_next_message_after_its_key(
    live: LiveServer, client: Client, channel: grpc.Channel, how: str
) -> None:
    made = admin.CreateKeyRequest(key=admin.ApiKey())
    if how == "expired":
        made.key.expires_at.GetCurrentTime()
        made.key.expires_at.seconds += 3600
    (key,) = call(channel, "CreateKey", made, live.key).responses
    assert isinstance(key, admin.CreateKeyResponse)
    stream = OpenStream(channel, key.secret)
    stream.write("before")
    if how == "revoked":
        client.revoke_key(key.key.key_id)
    elif how == "rotated":
        client.rotate_key(key.key.key_id)
    else:
        live.ahead_micros += DAY_MICROS
    with pytest.raises(grpc.RpcError) as caught:
        stream.write("after")
    stream.end()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [memory.text for memory in client.list()] == ["before"]


def test_a_stream_of_another_key_goes_on(live: LiveServer, client: Client, channel: grpc.Channel) -> None:
    stream = OpenStream(channel, client.create_key().secret)
    stream.write("before")
    client.revoke_key(client.create_key().key.key_id)
    stream.write("after")
    stream.end()


def test_failures_are_limited_and_a_key_in_use_is_not_locked_out(live: LiveServer, channel: grpc.Channel) -> None:
    assert works(channel, live.key)
    answers = [call(channel, "ListMemories", LIST, f"lm_guess_{i}") for i in range(25)]
    statuses = [answer.status for answer in answers]
    assert statuses[:20] == [grpc.StatusCode.UNAUTHENTICATED] * 20
    assert statuses[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answers[-1].reason == "TOO_MANY_FAILURES"
    assert 0 < (answers[-1].retry_seconds or 0) <= 3
    assert works(channel, live.key)


def test_the_client_says_that_a_key_is_bad(live: LiveServer) -> None:
    with Client(live.address, api_key="lm_a_b", user_id="ana") as stranger, pytest.raises(UnauthenticatedError):
        stranger.get("0190a000-0000-7000-8000-000000000000")
