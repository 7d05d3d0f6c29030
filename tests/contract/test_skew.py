"""Versions apart: an older client on this server, a newer client on this server, and this client on a newer server.

Two descriptor sets are checked in (skew_sets.py): the API of the first servers, and one that is newer than ours: every message
has got one more field, and each service one more method. All play the contract vectors, as far as both sides can know what
these speak of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from lightmem_client import UnimplementedError

from tests.contract.client_tools import BUILD_SECONDS, CLIENTS, Client
from tests.contract.skew_sets import LATER, LATER_FIELD, LATER_METHOD, OLDER, PACKAGE, make_later, names, today
from tests.contract.vector_play import Json, Names, Player, read_vectors
from tests.server_process import ServerProcess

VECTORS = dict(read_vectors())
PLAYERS = [client for client in CLIENTS if client.vectors]


def to_pool(files: FileDescriptorSet) -> DescriptorPool:
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)  # type: ignore[no-untyped-call]
    return pool


def dress(message: Message) -> None:
    """Fill the later field in, in every message of ours."""
    if message.DESCRIPTOR.file.package != PACKAGE:
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for item in value.values():
                    dress(item)
        elif isinstance(value, Message):
            dress(value)
        else:
            for item in value:
                dress(item)
    setattr(message, LATER_FIELD, "later")


def known(value: Json, message: Descriptor) -> Json:
    """What an API can know of an expected answer: fields that it lacks are left out."""
    if not isinstance(value, dict) or any(key.startswith("$") for key in value) or message.file.package != PACKAGE:
        return value
    fields = {field.json_name: field for field in message.fields}
    pruned = {}
    for name, item in value.items():
        field = fields.get(name)
        if field is None:
            continue
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            pruned[name] = item
        elif isinstance(item, list):
            pruned[name] = [known(one, field.message_type) for one in item]
        else:
            pruned[name] = known(item, field.message_type)
    return pruned


def as_known(vector: Json, method_of: Callable[[str], MethodDescriptor]) -> Json:
    """A vector as an API can know it. Skips one that speaks of methods or sends fields that the API lacks."""
    steps = []
    for step in vector["steps"]:
        try:
            method = method_of(step["call"])
        except KeyError:
            pytest.skip(f"the older API has no {step['call']}")
        for request in step["requests"]:
            if known(request, method.input_type) != request:
                pytest.skip(f"the older API cannot say what is asked of {step['call']}")
        expected = dict(step)
        if "responses" in step:
            expected["responses"] = [known(response, method.output_type) for response in step["responses"]]
        if "last" in step:
            expected["last"] = known(step["last"], method.output_type)
        steps.append(expected)
    return {"steps": steps}


@pytest.fixture(scope="module")
def later_pool() -> DescriptorPool:
    return to_pool(FileDescriptorSet.FromString(LATER.read_bytes()))


@pytest.fixture(scope="module")
def older_client(server: ServerProcess) -> Iterator[Player]:
    older = FileDescriptorSet.FromString(OLDER.read_bytes())
    player = Player(server.address, server.key, pool=to_pool(older))
    yield player
    player.close()


@pytest.fixture(scope="module")
def newer_client(server: ServerProcess, later_pool: DescriptorPool) -> Iterator[Player]:
    player = Player(server.address, server.key, pool=later_pool, dress=dress)
    yield player
    player.close()


class NewerServer(grpc.GenericRpcHandler):
    """Stands before a server and says more than it does: every message in its answers has the later field."""

    def __init__(self, server: ServerProcess, pool: DescriptorPool) -> None:
        self._channel = grpc.insecure_channel(server.address)
        self._pool = pool
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()
        self._channel.close()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        path = handler_call_details.method
        service, _, name = path.removeprefix("/").partition("/")
        answer = message_factory.GetMessageClass(
            self._pool.FindServiceByName(service).methods_by_name[name].output_type
        )

        def forward(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            sent = [(key, value) for key, value in context.invocation_metadata() if key == "authorization"]
            call = self._channel.stream_stream(path)(requests, metadata=sent, timeout=context.time_remaining())
            try:
                for data in call:
                    message = answer.FromString(data)
                    dress(message)
                    yield bytes(message.SerializeToString())
            except grpc.RpcError:
                trailing: Sequence[Any] = call.trailing_metadata() or ()
                context.set_trailing_metadata([(key, value) for key, value in trailing if key.endswith("-bin")])
                context.abort(call.code(), call.details() or "")

        return grpc.stream_stream_rpc_method_handler(forward)


@pytest.fixture(scope="module")
def newer_server(server: ServerProcess, later_pool: DescriptorPool) -> Iterator[NewerServer]:
    newer = NewerServer(server, later_pool)
    yield newer
    newer.close()


@pytest.fixture(scope="module")
def client_of_newer_server(server: ServerProcess, newer_server: NewerServer) -> Iterator[Player]:
    player = Player(newer_server.address, server.key)
    yield player
    player.close()


def test_the_later_api_is_later_than_todays() -> None:
    """`make vectors` writes it."""
    assert FileDescriptorSet.FromString(LATER.read_bytes()) == make_later(today())


def test_the_older_api_is_older() -> None:
    older = names(FileDescriptorSet.FromString(OLDER.read_bytes()))
    added = names(today()) - older
    assert len(older) > 200
    assert len(added) > 50


@pytest.mark.parametrize("name", VECTORS)
def test_older_client_gets_what_it_knows(older_client: Player, name: str) -> None:
    older_client.play(as_known(VECTORS[name], older_client.method_of))


@pytest.mark.parametrize("name", VECTORS)
def test_newer_client_gets_the_same(newer_client: Player, name: str) -> None:
    newer_client.play(VECTORS[name])


@pytest.mark.parametrize("name", VECTORS)
def test_newer_server_is_understood(client_of_newer_server: Player, name: str) -> None:
    client_of_newer_server.play(VECTORS[name])


@pytest.mark.timeout(BUILD_SECONDS)
@pytest.mark.parametrize("client", PLAYERS, ids=[client.language for client in PLAYERS])
def test_newer_server_is_understood_in_other_languages(
    server: ServerProcess, newer_server: NewerServer, client: Client
) -> None:
    client.run(client.vectors, target=newer_server.address, data_dir=server.data_dir)


def test_method_of_a_later_version_is_unimplemented(newer_client: Player) -> None:
    step = {"call": f"{PACKAGE}.MemoryService/{LATER_METHOD}", "requests": [{}]}
    assert isinstance(newer_client.send(step, Names()).error, UnimplementedError)


def test_what_an_older_api_lacks_is_left_out() -> None:
    answer = descriptor_pool.Default().FindMessageTypeByName(f"{PACKAGE}.ListMemoriesResponse")
    expected = {"memories": [{"id": {"$any": "string"}, "later": 1, "scope": {"userId": "a", "later": 1}}], "later": []}
    assert known(expected, answer) == {"memories": [{"id": {"$any": "string"}, "scope": {"userId": "a"}}]}
