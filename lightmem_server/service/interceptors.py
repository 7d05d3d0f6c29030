"""The boundary of every RPC: admission, the caller, the error mapping, and one log line.

This is the one place where a domain error becomes a status, and the one place that catches everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
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
    MemoryDiffersError,
    ModelError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
    RequestReusedError,
    UnauthenticatedError,
    UnavailableError,
    UserErasedError,
    VersionMismatchError,
)
from lightmem_server.service.admission import Admission
from lightmem_server.service.auth import Authenticator, KeyWatch, caller

DOMAIN = "lightmem"
"""ErrorInfo.domain."""

OUR_METHODS = "/lightmem.v1."

STATUS: dict[type[LightMemError], grpc.StatusCode] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    RequestReusedError: grpc.StatusCode.ALREADY_EXISTS,
    MemoryDiffersError: grpc.StatusCode.ALREADY_EXISTS,
    VersionMismatchError: grpc.StatusCode.ABORTED,
    UserErasedError: grpc.StatusCode.ABORTED,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    ModelError: grpc.StatusCode.UNAVAILABLE,
    CoreError: grpc.StatusCode.INTERNAL,
    ConfigError: grpc.StatusCode.INTERNAL,
}
"""Subclasses have their parent's status; a test checks that every error class finds one."""

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


class _UnreadError(OverloadedError):
    """A caller left a response unread for too long."""

    reason = "SLOW_READER"

    def __init__(self, sending: asyncio.Future[None], seconds: float) -> None:
        super().__init__(f"the answer was not read within {seconds:g} s", retry_after_seconds=seconds)
        self._sending = sending

    async def wait(self) -> None:
        """Until the caller reads on, or is gone: gRPC can't send a status before. Nothing but the response is held by then."""
        try:
            await asyncio.wait({self._sending})
        finally:
            self._sending.cancel()


class BoundaryInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of LightMem's own services; health and reflection pass through."""

    def __init__(
        self,
        check_ready: Callable[[], None],
        authenticator: Callable[[], Authenticator],
        admission: Admission,
        *,
        max_send_seconds: float,
    ) -> None:
        """
        Args:
            check_ready: Raises UnavailableError while starting or draining.
            authenticator: Gives the authenticator; called only when ready.
            max_send_seconds: How long a caller may leave a response unread.
        """
        self._check_ready = check_ready
        self._authenticator = authenticator
        self._admission = admission
        self._max_send_seconds = max_send_seconds
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a call; once for each method. The first that is seen of a call."""
        self._admission.arrivals.note()
        method = handler_call_details.method
        if (wrapped := self._wrapped.get(method)) is not None:
            return wrapped
        handler: Any = await continuation(handler_call_details)
        if handler is None or not method.startswith(OUR_METHODS):
            return handler  # type: ignore[no-any-return]  # Any since all four kinds of handler are one class here
        wrapped = self._wrapped[method] = self._wrap(method.removeprefix(OUR_METHODS), handler)
        return wrapped

    def _wrap(self, name: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
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
            async with self._guard(name, context, None if is_request_stream else _user_of(request)) as watch:
                parsed = _parsed_stream(request, watch) if is_request_stream else _parsed(request)
                return await behavior(parsed, context)

        return call

    def _many(self, name: str, behavior: Any, is_request_stream: bool) -> Any:
        async def call(request: Any, context: Context) -> None:
            async with self._guard(name, context, None if is_request_stream else _user_of(request)) as watch:
                parsed = _parsed_stream(request, watch) if is_request_stream else _parsed(request)
                async with contextlib.aclosing(behavior(parsed, context)) as responses:
                    async for response in responses:
                        await watch.check()
                        await self._send(context, response)

        return call

    async def _send(self, context: Context, response: Any) -> None:
        """Hand a response to gRPC, which takes it when the caller has read enough of those before it."""
        sending = asyncio.ensure_future(context.write(response))
        try:
            done, _ = await asyncio.wait({sending}, timeout=self._max_send_seconds)
        except asyncio.CancelledError:
            sending.cancel()
            raise
        if not done:
            raise _UnreadError(sending, self._max_send_seconds)
        await sending

    @contextlib.asynccontextmanager
    async def _guard(self, name: str, context: Context, user_id: str | None) -> AsyncIterator[KeyWatch]:
        """`user_id`: whom the request names, "" for nobody; None: the call is a stream of requests."""
        started = time.monotonic()
        status, error = grpc.StatusCode.OK, None
        with contextlib.ExitStack() as place:
            try:
                yield await self._admit(context, user_id, place)
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
        if isinstance(error, _UnreadError):
            await error.wait()
        if error is not None:
            await context.abort(
                status,
                error.message,
                trailing_metadata=(("grpc-status-details-bin", details_of(error, status)),),
            )

    async def _admit(self, context: Context, user_id: str | None, place: contextlib.ExitStack) -> KeyWatch:
        """Let a call in, with a place that is left with `place`. Raises what refuses it."""
        self._check_ready()
        headers = {key: value for key, value in context.invocation_metadata() or () if key == "authorization"}
        authorization = headers.get("authorization")
        authenticator = self._authenticator()
        holder = await authenticator.authenticate(
            authorization if isinstance(authorization, str) else None, peer=context.peer()
        )
        caller.set(holder)
        structlog.contextvars.bind_contextvars(key_id=holder.key_id, namespace=holder.namespace)
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise TimeoutError
        if user_id is None:
            place.enter_context(self._admission.stream(holder.key_id))
        else:
            place.enter_context(self._admission.request((holder.namespace, user_id)))
        return authenticator.watch(holder)

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


def _user_of(request: Any) -> str:
    """Whom a request of either service is about; "" where it names nobody."""
    inner = getattr(request, "retrieve", request)
    return str(getattr(getattr(inner, "scope", inner), "user_id", ""))


def _parsed(request: Request | _Malformed[Request]) -> Request:
    if isinstance(request, _Malformed):
        raise InvalidInputError("request", "is not a valid message, or has text that is not UTF-8", reason="MALFORMED")
    return request


async def _parsed_stream(
    requests: AsyncIterator[Request | _Malformed[Request]], watch: KeyWatch
) -> AsyncIterator[Request]:
    async for request in requests:
        await watch.check()
        yield _parsed(request)
