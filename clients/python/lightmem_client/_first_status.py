"""The status that an asynchronous call ended with first.

When the server ends a call while a request is still being written, grpc.aio replaces the status that came with
"INTERNAL: Internal error from Core" (https://github.com/grpc/grpc/issues/36066, open in grpcio 1.85). The call's done
callback still sees the one that came, so it is read there, and raised instead. Goes when grpcio is mended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import grpc
import grpc.aio

from lightmem_client import errors
from lightmem_client._status import decode, typed_errors

T = TypeVar("T")


@contextlib.contextmanager
def typed_stream_errors(call: grpc.aio.Call) -> Iterator[None]:
    """Raises gRPC's errors in here as LightMemError, with the status that the server sent."""
    first: list[errors.LightMemError] = []

    def keep(_: Any) -> None:
        code = _result_now(call.code())
        if code is grpc.StatusCode.OK:
            first.append(errors.UnavailableError("the server ended the stream", reason="STREAM_ENDED"))
        else:
            first.append(decode(code, _result_now(call.details()) or "", _result_now(call.trailing_metadata()) or ()))

    call.add_done_callback(keep)
    try:
        with typed_errors():
            yield
    except errors.InternalError as error:
        if first:
            raise first[0] from error
        raise


def _result_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for, as a finished call's have not."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise errors.InternalError("a finished call has no status", reason="NO_STATUS")
