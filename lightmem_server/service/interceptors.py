"""The boundary of every RPC: admission, the caller, the error mapping, and one log line.

This is the one place where a domain error becomes a status, and the one place that catches everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lightmem_server.errors import (
    ConfigError,
    CoreError,
    ForbiddenError,
    InvalidInputError,
    LightMemError,
    ModelError,
    NotFoundError,
    NotImplementedYetError,
    OverloadedError,
    PreconditionError,
    RequestReusedError,
    UnauthenticatedError,
    UnavailableError,
    UserErasedError,
    VersionMismatchError,
)
from lightmem_server.service.auth import Authenticator, caller

DOMAIN = "lightmem"
"""ErrorInfo.domain."""

OUR_METHODS = "/lightmem.v1."

STATUS: dict[type[LightMemError], grpc.StatusCode] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    RequestReusedError: grpc.StatusCode.ALREADY_EXISTS,
    VersionMismatchError: grpc.StatusCode.ABORTED,
    UserErasedError: grpc.StatusCode.ABORTED,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    NotImplementedYetError: grpc.StatusCode.UNIMPLEMENTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    ModelError: grpc.StatusCode.UNAVAILABLE,
    CoreError: grpc.StatusCode.INTERNAL,
    ConfigError: grpc.StatusCode.INTERNAL,
}
"""Subclasses have their parent's status; a test checks that every error class finds one."""

RETRY_AFTER_SECONDS = 0.25
"""What a refused caller is told to wait when all places are taken: about one retrieval."""

log = structlog.get_logger()
Request = TypeVar("Request", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]


def status_of(error: LightMemError) -> grpc.StatusCode:
    """The canonical status of a domain error."""
    for class_ in type(error).__mro__:
        if class_ in STATUS:
            return STATUS[class_]
    return grpc.StatusCode.INTERNAL


def details_of(error: LightMemError, status_code: grpc.StatusCode) -> bytes:
    """The serialized google.rpc.Status of an error, for the trailing metadata."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, InvalidInputError):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.description)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, OverloadedError):
        delay = Duration()
        delay.FromMilliseconds(int(error.retry_after_seconds * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code_pb2.Code.Value(status_code.name), message=error.message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return bytes(status.SerializeToString())


@dataclass(frozen=True, slots=True)
class _Malformed(Generic[Request]):
    """Stands for a message that could not be parsed; left alone, gRPC would call it INTERNAL."""

    problem: str


class Admission:
    """Counts calls at work; beyond a limit they are refused at once rather than queued."""

    def __init__(self, *, max_requests: int, max_streams_per_key: int) -> None:
        self._max_requests = max_requests
        self._max_streams_per_key = max_streams_per_key
        self._requests = 0
        self._streams: Counter[str] = Counter()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Holds the place of one request. Raises OverloadedError when none is free."""
        if self._requests >= self._max_requests:
            raise OverloadedError(f"{self._max_requests} requests are at work", retry_after_seconds=RETRY_AFTER_SECONDS)
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @contextlib.contextmanager
    def stream(self, key_id: str) -> Iterator[None]:
        """Holds the place of one stream of a key. Raises OverloadedError when none is free."""
        if self._streams[key_id] >= self._max_streams_per_key:
            raise OverloadedError(
                f"this key has {self._max_streams_per_key} open streams",
                retry_after_seconds=RETRY_AFTER_SECONDS,
                reason="TOO_MANY_STREAMS",
            )
        self._streams[key_id] += 1
        try:
            yield
        finally:
            self._streams[key_id] -= 1
            if not self._streams[key_id]:
                del self._streams[key_id]


class BoundaryInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of LightMem's own services; health and reflection pass through."""

    def __init__(
        self, check_ready: Callable[[], None], authenticator: Callable[[], Authenticator], admission: Admission
    ) -> None:
        """
        Args:
            check_ready: Raises UnavailableError while starting or draining.
            authenticator: Gives the authenticator; called only when ready.
        """
        self._check_ready = check_ready
        self._authenticator = authenticator
        self._admission = admission

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a call."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(OUR_METHODS):
            return handler  # type: ignore[no-any-return]  # Any since all four kinds of handler are one class here
        name = method.removeprefix(OUR_METHODS)
        parse, serialize = _tolerant(handler.request_deserializer), handler.response_serializer
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._many(name, handler.stream_stream, True), parse, serialize
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._many(name, handler.unary_stream, False), parse, serialize)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._one(name, handler.stream_unary, True), parse, serialize)
        return grpc.unary_unary_rpc_method_handler(self._one(name, handler.unary_unary, False), parse, serialize)

    def _one(self, name: str, behavior: Any, is_request_stream: bool) -> Any:
        async def call(request: Any, context: Context) -> Any:
            async with self._guard(name, context, is_request_stream):
                return await behavior(_parsed_stream(request) if is_request_stream else _parsed(request), context)

        return call

    def _many(self, name: str, behavior: Any, is_request_stream: bool) -> Any:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._guard(name, context, is_request_stream):
                responses = behavior(_parsed_stream(request) if is_request_stream else _parsed(request), context)
                async with contextlib.aclosing(responses):
                    async for response in responses:
                        yield response

        return call

    @contextlib.asynccontextmanager
    async def _guard(self, name: str, context: Context, is_stream: bool) -> AsyncIterator[None]:
        started = time.monotonic()
        status, error = grpc.StatusCode.OK, None
        try:
            async with self._admitted(context, is_stream):
                yield
        except LightMemError as problem:
            status, error = status_of(problem), problem
        except TimeoutError:
            status = grpc.StatusCode.DEADLINE_EXCEEDED
            error = LightMemError("the call's deadline has passed", reason="DEADLINE_EXCEEDED")
        except (asyncio.CancelledError, GeneratorExit):
            self._log(name, "CANCELLED", _ms_since(started), None)
            raise
        except Exception:
            log.exception("rpc_failed", method=name)
            status, error = grpc.StatusCode.INTERNAL, LightMemError("internal error; the server's log has it")
        # Written once the status is on its way: the caller doesn't wait for the log.
        asyncio.get_running_loop().call_soon(self._log, name, status.name, _ms_since(started), error)
        if error is not None:
            await context.abort(
                status,
                error.message,
                trailing_metadata=(("grpc-status-details-bin", details_of(error, status)),),
            )

    @contextlib.asynccontextmanager
    async def _admitted(self, context: Context, is_stream: bool) -> AsyncIterator[None]:
        self._check_ready()
        headers = {key: value for key, value in context.invocation_metadata() or () if key == "authorization"}
        authorization = headers.get("authorization")
        holder = await self._authenticator().authenticate(authorization if isinstance(authorization, str) else None)
        caller.set(holder)
        structlog.contextvars.bind_contextvars(key_id=holder.key_id, namespace=holder.namespace)
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise TimeoutError
        with self._admission.stream(holder.key_id) if is_stream else self._admission.request():
            yield

    @staticmethod
    def _log(name: str, status: str, ms: float, error: LightMemError | None) -> None:
        fields: dict[str, object] = {"method": name, "status": status, "ms": ms}
        if error is not None:
            fields["reason"] = error.reason
            if not isinstance(error, InvalidInputError):  # its text may quote the caller
                fields["error"] = error.message
        log.info("rpc", **fields)


def _ms_since(started: float) -> float:
    return round((time.monotonic() - started) * 1e3, 2)


def _tolerant(parse: Callable[[bytes], Request]) -> Callable[[bytes], Request | _Malformed[Request]]:
    def parse_or_mark(data: bytes) -> Request | _Malformed[Request]:
        try:
            return parse(data)
        except DecodeError as error:
            return _Malformed(str(error))

    return parse_or_mark


def _parsed(request: Request | _Malformed[Request]) -> Request:
    if isinstance(request, _Malformed):
        raise InvalidInputError("request", "is not a valid message, or has text that is not UTF-8", reason="MALFORMED")
    return request


async def _parsed_stream(requests: AsyncIterator[Request | _Malformed[Request]]) -> AsyncIterator[Request]:
    async for request in requests:
        yield _parsed(request)
