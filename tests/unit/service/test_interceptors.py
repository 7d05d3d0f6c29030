import grpc
from google.rpc import error_details_pb2, status_pb2

from lightmem_server import errors
from lightmem_server.errors import InvalidInputError, LightMemError, NotFoundError, OverloadedError, StoreVersionError
from lightmem_server.service.interceptors import STATUS, details_of, status_of


def test_every_error_class_has_a_status_of_its_own_or_of_a_parent() -> None:
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, LightMemError)}
    without = {c for c in classes - {LightMemError} if not STATUS.keys() & set(c.__mro__)}
    assert without == set()
    assert LightMemError not in STATUS, "a catch-all would hide a class that was forgotten"


def test_each_status_is_the_documented_one() -> None:
    assert {class_.__name__: status.name for class_, status in STATUS.items()} == {
        "InvalidInputError": "INVALID_ARGUMENT",
        "NotFoundError": "NOT_FOUND",
        "RequestReusedError": "ALREADY_EXISTS",
        "VersionMismatchError": "ABORTED",
        "UnauthenticatedError": "UNAUTHENTICATED",
        "ForbiddenError": "PERMISSION_DENIED",
        "OverloadedError": "RESOURCE_EXHAUSTED",
        "PreconditionError": "FAILED_PRECONDITION",
        "UserErasedError": "ABORTED",
        "MemoryDiffersError": "ALREADY_EXISTS",
        "UnavailableError": "UNAVAILABLE",
        "ModelError": "UNAVAILABLE",
        "CoreError": "INTERNAL",
        "ConfigError": "INTERNAL",
    }


def test_a_subclass_has_its_parents_status() -> None:
    assert status_of(StoreVersionError("newer")) is grpc.StatusCode.UNAVAILABLE


def decode(error: LightMemError) -> status_pb2.Status:
    return status_pb2.Status.FromString(details_of(error, status_of(error)))


def test_the_details_name_reason_and_field() -> None:
    status = decode(InvalidInputError("turns[2].text", "is empty", reason="REQUIRED"))
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.domain, info.reason) == ("lightmem", "REQUIRED")
    assert [(v.field, v.description) for v in bad.field_violations] == [("turns[2].text", "is empty")]


def test_an_overloaded_server_says_when_to_retry() -> None:
    retry = error_details_pb2.RetryInfo()
    assert decode(OverloadedError("full", retry_after_seconds=1.5)).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_what_is_not_there_and_what_is_not_yours_look_the_same() -> None:
    assert decode(NotFoundError("no such memory")) == decode(NotFoundError("no such memory"))
