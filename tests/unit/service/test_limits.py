"""Every field of every request that can be long or many has a bound that is enforced: found from the API's descriptors, so that
a field that is added fails here until it has one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lightmem_server.pb import memory_pb2
from lightmem_server.pb import memory_service_pb2 as pb
from tests.live_server import LiveServer
from tests.wire import METHODS, call

DEEPEST = 5
"""Filters nest in themselves."""

LONG, MANY = "x" * 300_000, 20_000

OUTPUT_ONLY = {
    "CreateKey": {"key.key_id"},
    "UpdateMemory": {
        *(f"memory.{name}" for name in ("text", "speaker", "evidence_ids", "previous_id", "supersedes_ids")),
        *(f"memory.{name}" for name in ("participants", "related_ids")),
        *(f"memory.statement.{name}" for name in ("subject", "relation", "object")),
        *(f"memory.scope.{name}" for name in ("user_id", "agent_id", "session_id")),
    },
}
"""What a request may carry since its message is an answer's too; the server doesn't look at it, and stores nothing of it."""

Path_ = tuple[FieldDescriptor, ...]


def unbounded(descriptor: Descriptor, before: Path_ = ()) -> Iterator[Path_]:
    """The fields that can be long or many."""
    for field in descriptor.fields:
        path = (*before, field)
        inner = field.message_type
        if field.is_repeated or field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield path
        if inner is not None and not inner.GetOptions().map_entry and len(path) < DEEPEST:
            yield from unbounded(inner, path)


def name_of(path: Path_) -> str:
    return ".".join(field.name for field in path)


CASES = [
    (method, path)
    for method in sorted(METHODS)
    for path in unbounded(METHODS[method].input_type)
    if name_of(path) not in OUTPUT_ONLY.get(method, ())
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(Path(tmp_path_factory.mktemp("data"))) as live:
        yield live


@pytest.fixture(scope="module")
def channel(live: LiveServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(live.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def memory_id(live: LiveServer, channel: grpc.Channel) -> str:
    """Of something that is there, and must be so at the end."""
    turns = [memory_pb2.Turn(text="I live in Porto.")]
    request = pb.WriteRequest(scope=memory_pb2.Scope(user_id="ana", session_id="s"), turns=turns)
    (response,) = call(channel, "Write", request, live.key).responses
    assert isinstance(response, pb.WriteResponse)
    return response.memory_ids[0]


def good_request(method: str, memory_id: str) -> Any:
    """One that is answered, before a field of it is made too large."""
    request: Any = GetMessageClass(METHODS[method].input_type)()
    plausible = {"user_id": "ana", "query": "Where do I live?", "memory_id": memory_id, "key_id": "k"}
    for name in request.DESCRIPTOR.fields_by_name.keys() & plausible.keys():
        setattr(request, name, plausible[name])
    for scope in (getattr(request, "scope", None), getattr(getattr(request, "retrieve", None), "scope", None)):
        if scope is not None:
            scope.user_id = "ana"
    if method == "Explain":
        request.retrieve.query = "Where do I live?"
    elif method == "Write":
        request.turns.add(text="I live in Faro.")
    elif method == "UpdateMemory":
        request.memory.id = memory_id
        request.update_mask.paths.append("metadata")
    return request


def make_too_large(message: Any, path: Path_) -> None:
    for field in path[:-1]:
        inner = getattr(message, field.name)
        message = (inner[0] if len(inner) else inner.add()) if field.is_repeated else inner
    last = path[-1]
    if not last.is_repeated:
        setattr(message, last.name, LONG if last.type == FieldDescriptor.TYPE_STRING else LONG.encode())
        return
    entries = getattr(message, last.name)
    if last.message_type is None:
        entries.extend(["x" if last.type == FieldDescriptor.TYPE_STRING else 1] * MANY)
    elif last.message_type.GetOptions().map_entry:
        for number in range(MANY):
            entries[f"k{number}"].CopyFrom(memory_pb2.MetadataValue(int_value=1))
    else:
        for _ in range(MANY):
            entries.add()


@pytest.mark.parametrize(
    ("method", "path"), [pytest.param(*case, id=f"{case[0]}-{name_of(case[1])}") for case in CASES]
)
def test_a_field_that_is_too_large_is_refused(
    live: LiveServer, channel: grpc.Channel, memory_id: str, method: str, path: Path_
) -> None:
    request: Message = good_request(method, memory_id)
    make_too_large(request, path)
    answer = call(channel, method, request, live.key, timeout=30)
    is_id = path[-1].name in ("id", "memory_id", "key_id", "run_id")
    refusals = {"INVALID_ARGUMENT"} | ({"NOT_FOUND"} if is_id else set())
    assert answer.status.name in refusals, (answer.status, answer.message)
    assert answer.reason
    assert LONG[:300] not in answer.message, "it isn't said back"
    there = pb.GetMemoryRequest(scope=memory_pb2.Scope(user_id="ana"), memory_id=memory_id)
    assert call(channel, "GetMemory", there, live.key).status is grpc.StatusCode.OK
