"""Whatever is sent, the answer is a documented status with a reason, nothing is half-written, and the server goes on.

Raw bytes go over the wire where a generated client would refuse to send them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from lightmem_server.pb import admin_service_pb2 as admin_pb
from lightmem_server.pb import memory_pb2, memory_service_pb2_grpc
from lightmem_server.pb import memory_service_pb2 as pb
from tests.server_process import ServerProcess

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SCOPE = memory_pb2.Scope(user_id="bad-input", session_id="s")
OTHER = memory_pb2.Scope(user_id="bad-input-other", session_id="s")
BODY_LIMIT = 1 << 20


@dataclass(frozen=True)
class Connection:
    """A channel with a key, for raw and for typed calls."""

    channel: grpc.Channel
    key: str

    def call(self, method: str, request: object, *, key: str | None = None, timeout: float | None = 20) -> object:
        """Send bytes, or a message, to a method; the last response, raw."""
        data = request if isinstance(request, bytes) else request.SerializeToString()  # type: ignore[attr-defined]
        metadata = (("authorization", f"Bearer {self.key}" if key is None else key),) if key != "" else ()
        path = f"/lightmem.v1.{method}"
        if method.endswith("/Write"):
            responses: list[bytes] = list(
                self.channel.stream_stream(path)(iter([data]), timeout=timeout, metadata=metadata)
            )
        elif method.endswith("/Retrieve"):
            responses = list(self.channel.unary_stream(path)(data, timeout=timeout, metadata=metadata))
        else:
            responses = [self.channel.unary_unary(path)(data, timeout=timeout, metadata=metadata)]
        return responses[-1]

    def count(self, scope: memory_pb2.Scope) -> int:
        """How many memories a user has."""
        data = self.call("MemoryService/ListMemories", pb.ListMemoriesRequest(scope=scope))
        assert isinstance(data, bytes)
        return len(pb.ListMemoriesResponse.FromString(data).memories)


@pytest.fixture(scope="module")
def connection(server: ServerProcess) -> Iterator[Connection]:
    with grpc.insecure_channel(server.address) as channel:
        yield Connection(channel, server.key)


def write(*turns: memory_pb2.Turn, scope: memory_pb2.Scope = SCOPE, **fields: object) -> pb.WriteRequest:
    return pb.WriteRequest(scope=scope, turns=turns, **fields)  # type: ignore[arg-type]


def turn(text: str = "fine", **fields: object) -> memory_pb2.Turn:
    return memory_pb2.Turn(text=text, **fields)  # type: ignore[arg-type]


def retrieve(query: str = "what?", **fields: object) -> pb.RetrieveRequest:
    return pb.RetrieveRequest(scope=SCOPE, query=query, **fields)  # type: ignore[arg-type]


def where(**fields: object) -> memory_pb2.MemoryFilter:
    return memory_pb2.MemoryFilter(**fields)  # type: ignore[arg-type]


def nested(depth: int) -> memory_pb2.MetadataFilter:
    inner = memory_pb2.MetadataFilter(
        condition=memory_pb2.MetadataCondition(key="a", operator=1, values=[memory_pb2.MetadataValue(int_value=1)])  # type: ignore[arg-type]
    )
    for _ in range(depth):
        outer = memory_pb2.MetadataFilter()
        getattr(outer, "not").CopyFrom(inner)
        inner = outer
    return inner


def replaced(message: object, old: bytes, new: bytes) -> bytes:
    """The message's bytes with some of them exchanged for as many others: what no client library would send."""
    data: bytes = message.SerializeToString()  # type: ignore[attr-defined]
    assert len(old) == len(new)
    assert old in data
    return data.replace(old, new)


def condition(operator: int, *values: memory_pb2.MetadataValue, key: str = "a") -> memory_pb2.MemoryFilter:
    part = memory_pb2.MetadataCondition(key=key, operator=operator, values=values)  # type: ignore[arg-type]
    return where(metadata=memory_pb2.MetadataFilter(condition=part))


VALUE = memory_pb2.MetadataValue(int_value=1)
WRITE, RETRIEVE = "MemoryService/Write", "MemoryService/Retrieve"
GET, LIST, UPDATE, DELETE = (
    f"MemoryService/{name}Memor{end}" for name, end in (("Get", "y"), ("List", "ies"), ("Update", "y"), ("Delete", "y"))
)
EXPLAIN = "MemoryService/Explain"
UNKNOWN_ID = "0190a000-0000-7000-8000-000000000000"

CASES = [
    # (id, method, request, reason, field)
    ("empty user id", WRITE, write(turn(), scope=memory_pb2.Scope()), "REQUIRED", "scope.user_id"),
    ("no scope", RETRIEVE, pb.RetrieveRequest(query="x"), "REQUIRED", "scope.user_id"),
    ("reserved user id", RETRIEVE, pb.RetrieveRequest(scope=memory_pb2.Scope(user_id="*"), query="x"), "RESERVED_USER_ID", "scope.user_id"),
    ("long user id", WRITE, write(turn(), scope=memory_pb2.Scope(user_id="u" * 257)), "TOO_LONG", "scope.user_id"),
    ("long user id in unicode", WRITE, write(turn(), scope=memory_pb2.Scope(user_id="ü" * 129)), "TOO_LONG", "scope.user_id"),
    ("control character in user id", WRITE, write(turn(), scope=memory_pb2.Scope(user_id="a\nb")), "CONTROL_CHARACTER", "scope.user_id"),
    ("NUL in session id", WRITE, write(turn(), scope=memory_pb2.Scope(user_id="a", session_id="\0")), "CONTROL_CHARACTER", "scope.session_id"),
    ("no turns", WRITE, write(), "REQUIRED", "turns"),
    ("too many turns", WRITE, write(*[turn()] * 129), "TOO_MANY", "turns"),
    ("empty text", WRITE, write(turn(), turn("")), "REQUIRED", "turns[1].text"),
    ("blank text", WRITE, write(turn(" \t\n\u3000")), "REQUIRED", "turns[0].text"),
    ("1 MB text", WRITE, write(turn("x" * BODY_LIMIT)), "TOO_LONG", "turns[0].text"),
    ("text just too long in bytes", WRITE, write(turn("ü" * 16_385)), "TOO_LONG", "turns[0].text"),
    ("NUL in text", WRITE, write(turn("a\0b")), "CONTROL_CHARACTER", "turns[0].text"),
    ("lone surrogate", WRITE, replaced(write(turn("a---b")), b"---", b"\xed\xa0\x80"), "MALFORMED", "request"),
    ("broken UTF-8", RETRIEVE, replaced(retrieve("a--b"), b"--", b"\xff\xfe"), "MALFORMED", "request"),
    ("garbage bytes", GET, b"\xff\xff\xff\xff", "MALFORMED", "request"),
    ("long speaker", WRITE, write(turn(speaker="s" * 257)), "TOO_LONG", "turns[0].speaker"),
    ("unknown role", WRITE, write(turn(role=99)), "UNKNOWN_ENUM_VALUE", "turns[0].role"),
    ("negative role", WRITE, write(turn(role=-1)), "UNKNOWN_ENUM_VALUE", "turns[0].role"),
    ("time out of range", WRITE, write(turn(occurred_at=Timestamp(seconds=2**62))), "OUT_OF_RANGE", "turns[0].occurred_at"),
    ("time with negative nanos", WRITE, write(turn(occurred_at=Timestamp(nanos=-1))), "OUT_OF_RANGE", "turns[0].occurred_at"),
    ("long request id", WRITE, write(turn(), request_id="r" * 129), "TOO_LONG", "request_id"),
    ("too many metadata keys", WRITE, write(turn(metadata={f"k{i}": VALUE for i in range(33)})), "TOO_MANY", "turns[0].metadata"),
    ("metadata without value", WRITE, write(turn(metadata={"k": memory_pb2.MetadataValue()})), "REQUIRED", "turns[0].metadata[k]"),
    ("metadata NaN", WRITE, write(turn(metadata={"k": memory_pb2.MetadataValue(double_value=float("nan"))})), "OUT_OF_RANGE", "turns[0].metadata[k]"),
    ("long metadata text", WRITE, write(turn(metadata={"k": memory_pb2.MetadataValue(string_value="x" * 1025)})), "TOO_LONG", "turns[0].metadata[k]"),
    ("empty metadata key", WRITE, write(turn(metadata={"": VALUE})), "TOO_LONG", "turns[0].metadata"),
    ("large metadata", WRITE, write(turn(metadata={f"k{i}": memory_pb2.MetadataValue(string_value="x" * 1024) for i in range(9)})), "TOO_LONG", "turns[0].metadata"),
    ("empty query", RETRIEVE, retrieve(""), "REQUIRED", "query"),
    ("long query", RETRIEVE, retrieve("x" * 8193), "TOO_LONG", "query"),
    ("too many memories", RETRIEVE, retrieve(budget=pb.RetrievalBudget(max_memories=101)), "OUT_OF_RANGE", "budget.max_memories"),
    ("too many candidates", RETRIEVE, retrieve(budget=pb.RetrievalBudget(max_candidates=201)), "OUT_OF_RANGE", "budget.max_candidates"),
    ("fewer candidates than memories", RETRIEVE, retrieve(budget=pb.RetrievalBudget(max_candidates=9)), "OUT_OF_RANGE", "budget.max_candidates"),
    ("too many tokens", RETRIEVE, retrieve(budget=pb.RetrievalBudget(max_tokens=32_769)), "OUT_OF_RANGE", "budget.max_tokens"),
    ("negative deadline", RETRIEVE, retrieve(budget=pb.RetrievalBudget(deadline=Duration(seconds=-1))), "OUT_OF_RANGE", "budget.deadline"),
    ("zero deadline", RETRIEVE, retrieve(budget=pb.RetrievalBudget(deadline=Duration())), "OUT_OF_RANGE", "budget.deadline"),
    ("deadline of mixed signs", RETRIEVE, retrieve(budget=pb.RetrievalBudget(deadline=Duration(seconds=1, nanos=-1))), "OUT_OF_RANGE", "budget.deadline"),
    ("negative budget", RETRIEVE, b"\x0a\x03\x0a\x01u\x12\x01x\x1a\x0b\x08" + b"\xff" * 9 + b"\x01", "OUT_OF_RANGE", "budget.max_memories"),
    ("unknown selector mode", RETRIEVE, retrieve(selector_mode=77), "UNKNOWN_ENUM_VALUE", "selector_mode"),
    ("relevance over one", RETRIEVE, retrieve(min_relevance=1.01), "OUT_OF_RANGE", "min_relevance"),
    ("relevance NaN", RETRIEVE, retrieve(min_relevance=float("nan")), "OUT_OF_RANGE", "min_relevance"),
    ("unknown time zone", RETRIEVE, retrieve(time_zone="Mars/Olympus"), "UNKNOWN_TIME_ZONE", "time_zone"),
    ("time zone that is a path", RETRIEVE, retrieve(time_zone="../../etc/passwd"), "UNKNOWN_TIME_ZONE", "time_zone"),
    ("unknown tokenizer", RETRIEVE, retrieve(tokenizer="nobody"), "UNKNOWN_TOKENIZER", "tokenizer"),
    ("too many hypothetical queries", RETRIEVE, retrieve(hypothetical_queries=5), "OUT_OF_RANGE", "hypothetical_queries"),
    ("explain without a retrieve", EXPLAIN, pb.ExplainRequest(memory_id=UNKNOWN_ID), "REQUIRED", "scope.user_id"),
    ("explain with a bad query", EXPLAIN, pb.ExplainRequest(retrieve=retrieve(""), memory_id=UNKNOWN_ID), "REQUIRED", "query"),
    ("tier unspecified", RETRIEVE, retrieve(filter=where(tiers=[0])), "UNKNOWN_ENUM_VALUE", "filter.tiers"),
    ("tier STM", RETRIEVE, retrieve(filter=where(tiers=[1])), "STM_NOT_SEARCHED", "filter.tiers"),
    ("unknown kind", LIST, pb.ListMemoriesRequest(scope=SCOPE, filter=where(kinds=[9])), "UNKNOWN_ENUM_VALUE", "filter.kinds"),
    ("archived in a search", RETRIEVE, retrieve(filter=where(include_archived=True)), "ARCHIVED_NOT_SEARCHED", "filter.include_archived"),
    ("too many sessions", RETRIEVE, retrieve(filter=where(session_ids=["s"] * 65)), "TOO_MANY", "filter.session_ids"),
    ("filter without expression", RETRIEVE, retrieve(filter=where(metadata=memory_pb2.MetadataFilter())), "REQUIRED", "filter.metadata"),
    ("filter too deep", RETRIEVE, retrieve(filter=where(metadata=nested(8))), "TOO_DEEP", None),
    ("filter far too deep", RETRIEVE, retrieve(filter=where(metadata=nested(90))), None, None),
    ("operator unspecified", RETRIEVE, retrieve(filter=condition(0, VALUE)), "UNKNOWN_ENUM_VALUE", None),
    ("operator without value", RETRIEVE, retrieve(filter=condition(1)), "TOO_MANY", None),
    ("order of truth values", RETRIEVE, retrieve(filter=condition(3, memory_pb2.MetadataValue(bool_value=True))), "WRONG_TYPE", None),
    ("contains a number", RETRIEVE, retrieve(filter=condition(8, VALUE)), "WRONG_TYPE", None),
    ("page too large", LIST, pb.ListMemoriesRequest(scope=SCOPE, page_size=1001), "OUT_OF_RANGE", "page_size"),
    ("page token of nobody", LIST, pb.ListMemoriesRequest(scope=SCOPE, page_token="AAAA"), "BAD_PAGE_TOKEN", "page_token"),
    ("no memory id", GET, pb.GetMemoryRequest(scope=SCOPE), "REQUIRED", "memory_id"),
    ("update without mask", UPDATE, pb.UpdateMemoryRequest(scope=SCOPE, memory=memory_pb2.Memory(id=UNKNOWN_ID)), "REQUIRED", "update_mask"),
    ("update of the text", UPDATE, pb.UpdateMemoryRequest(scope=SCOPE, memory=memory_pb2.Memory(id=UNKNOWN_ID), update_mask=FieldMask(paths=["text"])), "FIELD_NOT_MUTABLE", "update_mask"),
    ("key with too many users", "AdminService/CreateKey", admin_pb.CreateKeyRequest(key=admin_pb.ApiKey(user_ids=["u"] * 65)), "TOO_MANY", "key.user_ids"),
    ("rotation of no key", "AdminService/RotateKey", admin_pb.RotateKeyRequest(), "REQUIRED", "key_id"),
    ("key with an empty user", "AdminService/CreateKey", admin_pb.CreateKeyRequest(key=admin_pb.ApiKey(user_ids=[""])), "REQUIRED", "key.user_ids[0]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "request_", "reason", "field"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_bad_input_is_refused_by_name(
    connection: Connection, method: str, request_: object, reason: str | None, field: str | None
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connection.call(method, request_)
    assert caught.value.code() is INVALID
    assert reason in (None, reason_of(caught.value))
    assert field in (None, field_of(caught.value))
    assert connection.count(SCOPE) == 0


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        pytest.param(GET, pb.GetMemoryRequest(scope=SCOPE, memory_id=UNKNOWN_ID), id="get"),
        pytest.param(GET, pb.GetMemoryRequest(scope=SCOPE, memory_id="no uuid at all"), id="get-no-uuid"),
        pytest.param(DELETE, pb.DeleteMemoryRequest(scope=SCOPE, memory_id=UNKNOWN_ID), id="delete"),
        pytest.param(EXPLAIN, pb.ExplainRequest(retrieve=retrieve(), memory_id=UNKNOWN_ID), id="explain"),
        pytest.param(
            UPDATE,
            pb.UpdateMemoryRequest(
                scope=SCOPE, memory=memory_pb2.Memory(id=UNKNOWN_ID), update_mask=FieldMask(paths=["is_pinned"])
            ),
            id="update",
        ),
        pytest.param("AdminService/RevokeKey", admin_pb.RevokeKeyRequest(key_id="nobody"), id="revoke"),
    ],
)
def test_an_unknown_id_is_not_found(connection: Connection, method: str, request_: object) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connection.call(method, request_)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(caught.value) == "NOT_FOUND"


ID_TAKERS: list[tuple[str, Callable[[memory_pb2.Scope, str], object]]] = [
    (GET, lambda scope, id_: pb.GetMemoryRequest(scope=scope, memory_id=id_)),
    (DELETE, lambda scope, id_: pb.DeleteMemoryRequest(scope=scope, memory_id=id_)),
    (
        UPDATE,
        lambda scope, id_: pb.UpdateMemoryRequest(
            scope=scope, memory=memory_pb2.Memory(id=id_), update_mask=FieldMask(paths=["is_pinned"])
        ),
    ),
]


@pytest.mark.parametrize(("method", "make"), ID_TAKERS, ids=["get", "delete", "update"])
def test_another_users_memory_looks_exactly_like_none(
    connection: Connection, method: str, make: Callable[[memory_pb2.Scope, str], object]
) -> None:
    data = connection.call(WRITE, write(turn(f"theirs {uuid.uuid4()}"), scope=OTHER))
    assert isinstance(data, bytes)
    (theirs,) = pb.WriteResponse.FromString(data).memory_ids
    answers = []
    for id_ in (theirs, UNKNOWN_ID):
        with pytest.raises(grpc.RpcError) as caught:
            connection.call(method, make(SCOPE, id_))
        answers.append((caught.value.code(), caught.value.details(), details(caught.value)))
    assert answers[0] == answers[1]
    assert connection.call(GET, pb.GetMemoryRequest(scope=OTHER, memory_id=theirs))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        pytest.param("", "KEY_MISSING", id="none"),
        pytest.param("Basic abc", "KEY_MISSING", id="other-scheme"),
        pytest.param("Bearer ", "KEY_INVALID", id="empty"),
        pytest.param("Bearer lm_abc_def", "KEY_INVALID", id="unknown"),
        pytest.param("Bearer sk-123", "KEY_INVALID", id="of-another-product"),
    ],
)
def test_without_a_good_key_there_is_nothing(connection: Connection, key: str, reason: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connection.call(RETRIEVE, retrieve(), key=key)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason_of(caught.value) == reason


def test_a_key_with_one_wrong_character_is_refused(connection: Connection) -> None:
    wrong = connection.key[:-1] + ("a" if connection.key[-1] != "a" else "b")
    with pytest.raises(grpc.RpcError) as caught:
        connection.call(RETRIEVE, retrieve(), key=f"Bearer {wrong}")
    assert reason_of(caught.value) == "KEY_INVALID"


def test_a_key_for_one_user_opens_no_other_and_no_admin_call(connection: Connection) -> None:
    made = connection.call("AdminService/CreateKey", admin_pb.CreateKeyRequest(key=admin_pb.ApiKey(user_ids=["mine"])))
    assert isinstance(made, bytes)
    key = f"Bearer {admin_pb.CreateKeyResponse.FromString(made).secret}"
    mine = memory_pb2.Scope(user_id="mine")
    assert connection.call(LIST, pb.ListMemoriesRequest(scope=mine), key=key) is not None
    for method, request, reason in (
        (LIST, pb.ListMemoriesRequest(scope=OTHER), "KEY_NOT_FOR_USER"),
        ("AdminService/GetStats", admin_pb.GetStatsRequest(), "KEY_NOT_ADMIN"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            connection.call(method, request, key=key)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert reason_of(caught.value) == reason


def test_a_deadline_already_past_is_deadline_exceeded(connection: Connection) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connection.call(RETRIEVE, retrieve(), timeout=-1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_hypothetical_queries_without_a_writer_are_a_failed_precondition(connection: Connection) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connection.call(RETRIEVE, retrieve(hypothetical_queries=1))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "NO_WRITER"


def test_a_message_over_the_limit_is_refused_by_the_transport(connection: Connection) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connection.call(WRITE, write(*[turn("x" * 32_000)] * 128 + [turn("x" * 200_000)]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_request_refused_in_the_middle_of_a_stream_keeps_what_was_acknowledged(connection: Connection) -> None:
    scope = memory_pb2.Scope(user_id=f"middle-{uuid.uuid4()}")
    stub = memory_service_pb2_grpc.MemoryServiceStub(connection.channel)
    requests = [write(turn(text), scope=scope) for text in ("first", "second", "", "fourth")]
    acks = []
    with pytest.raises(grpc.RpcError) as caught:
        acks.extend(stub.Write(iter(requests), metadata=(("authorization", f"Bearer {connection.key}"),)))
    responses = caught.value
    assert responses.code() is INVALID
    assert field_of(responses) == "turns[0].text"
    assert connection.count(scope) == 2


def details(error: grpc.RpcError) -> bytes:
    (value,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    assert isinstance(value, bytes)
    return value


def reason_of(error: grpc.RpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details(error)).details[0].Unpack(info)
    assert info.domain == "lightmem"
    return str(info.reason)


def field_of(error: grpc.RpcError) -> str:
    bad = error_details_pb2.BadRequest()
    assert status_pb2.Status.FromString(details(error)).details[1].Unpack(bad)
    return str(bad.field_violations[0].field)
