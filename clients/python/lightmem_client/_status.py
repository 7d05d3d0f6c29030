"""From a failed gRPC call to a typed error: google.rpc details in the trailing metadata, decoded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from lightmem_client import errors

DETAILS_KEY = "grpc-status-details-bin"

CLASS_OF_STATUS: dict[grpc.StatusCode, type[errors.LightMemError]] = {
    class_.default_status: class_
    for class_ in (
        errors.InvalidArgumentError,
        errors.NotFoundError,
        errors.AlreadyExistsError,
        errors.AbortedError,
        errors.FailedPreconditionError,
        errors.UnauthenticatedError,
        errors.PermissionDeniedError,
        errors.OverloadedError,
        errors.UnavailableError,
        errors.DeadlineExceededError,
        errors.CancelledError,
        errors.UnimplementedError,
    )
}
"""Any other status is an InternalError."""

Metadata: TypeAlias = Iterable[Sequence[str | bytes]]


def to_error(error: grpc.RpcError) -> errors.LightMemError:
    """The typed error of a failed call, synchronous or asynchronous."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return errors.InternalError(str(error))
    return decode(error.code(), error.details() or "", error.trailing_metadata() or ())


def decode(code: grpc.StatusCode, message: str, metadata: Metadata) -> errors.LightMemError:
    """The typed error of a status, its message and its trailing metadata. Details that don't parse are left out."""
    reason, field, retry_after_seconds = "", None, None
    for detail in _details(metadata):
        info, bad_request, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    if code is grpc.StatusCode.UNAVAILABLE and not reason:  # gRPC's own, which speaks of sockets
        reason, message = "UNREACHABLE", f"no server could be reached: {message}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and not reason:
        reason, message = "DEADLINE_EXCEEDED", "no answer within the timeout; whether the call took effect is not known"
    if code is grpc.StatusCode.CANCELLED and not reason:
        reason = "CANCELLED"
        if "closed" in message.lower():  # gRPC has no other sign of it
            reason, message = "CLOSED", "the client is closed"
    class_ = CLASS_OF_STATUS.get(code, errors.InternalError)
    return class_(message, reason=reason, status=code, field=field, retry_after_seconds=retry_after_seconds)


def _details(metadata: Metadata) -> Iterable[AnyMessage]:
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return ()
    return ()


@contextlib.contextmanager
def typed_errors() -> Iterator[None]:
    """Raises gRPC's errors in here as LightMemError."""
    try:
        yield
    except grpc.RpcError as error:
        raise to_error(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():  # the caller's own doing
            raise
        raise errors.CancelledError("the client is closed", reason="CLOSED") from error
    except ValueError as error:
        if "closed" not in str(error):  # what gRPC says of a channel that was closed meanwhile
            raise
        raise errors.CancelledError("the client is closed", reason="CLOSED") from error
