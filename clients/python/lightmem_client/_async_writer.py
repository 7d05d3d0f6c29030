"""The asynchronous writer: the same as _writer.py, with a task in place of the thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Self

from lightmem_client._codec import to_count
from lightmem_client._codec_calls import to_write_request, to_write_result
from lightmem_client._first_status import typed_stream_errors
from lightmem_client._results import WriteResult
from lightmem_client._retry import Deadline, RetryPolicy, bounded_seconds, is_transient
from lightmem_client._status import typed_errors
from lightmem_client._types import Turn
from lightmem_client._window import Window
from lightmem_client.errors import (
    CancelledError,
    DeadlineExceededError,
    LightMemError,
    UnavailableError,
    WriteAbandonedError,
)
from lightmem_client.pb.memory_pb2 import Scope
from lightmem_client.pb.memory_service_pb2 import WriteRequest

OpenStream = Callable[[AsyncIterator[WriteRequest]], Any]
"""Begins a Write call, an async iterator of responses that can be cancelled."""


class AsyncPendingWrite:
    """A request on its way; await it for its WriteResult."""

    def __init__(self, request: WriteRequest) -> None:
        self.request = request
        self._future: asyncio.Future[WriteResult] = asyncio.get_running_loop().create_future()

    @property
    def request_id(self) -> str:
        """What makes sending it again harmless."""
        return self.request.request_id

    @property
    def is_done(self) -> bool:
        """Whether awaiting it answers at once."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, WriteResult]:
        """Wait for the acknowledgement. Raises LightMemError when it was refused, or an earlier one was."""
        return asyncio.shield(self._future).__await__()  # whoever stops waiting doesn't take the request back


def _abandoned() -> WriteAbandonedError:
    return WriteAbandonedError("an earlier request of this writer failed", reason="WRITE_ABANDONED")


class _Stream:
    """One connection of a writer; when it is over, its request iterator must end."""

    is_over = False
    has_progress = False


class AsyncWriter:
    """Streams turns of one scope. Made by `AsyncClient.open_writer`.

    When the connection breaks, it reconnects with backoff and sends again what was not acknowledged, with the same
    request_ids, so nothing is stored twice. A request that is refused ends the writer: its error goes to its
    AsyncPendingWrite, those behind it get WriteAbandonedError, and so does every later `send`.
    """

    def __init__(
        self, open_stream: OpenStream, scope: Scope, *, retry: RetryPolicy, timeout_seconds: float, max_in_flight: int
    ) -> None:
        self._open_stream = open_stream
        self._scope = scope
        self._retry = retry
        self._timeout_seconds = timeout_seconds
        self._changed = asyncio.Condition()
        self._window: Window[AsyncPendingWrite] = Window(to_count(max_in_flight, "max_in_flight"))
        self._worker: asyncio.Task[None] | None = None
        self._error: LightMemError | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except LightMemError:
            if error is None:  # what went wrong inside the block matters more
                raise

    async def send(
        self,
        turns: str | Turn | Iterable[str | Turn],
        *,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> AsyncPendingWrite:
        """Hand over one request of one or several turns. Returns at once, or waits while the window is full.

        Raises:
            InvalidArgumentError: A value that cannot be sent; the writer stays usable.
            DeadlineExceededError: The window stayed full; the request was not taken in.
            WriteAbandonedError: An earlier request failed.
            CancelledError: The writer is closed.
        """
        pending = AsyncPendingWrite(to_write_request(self._scope, turns, request_id))
        async with self._changed:
            await self._wait_for(lambda: not self._window.is_full or self._is_closed, timeout_seconds)
            if self._error is not None:
                raise _abandoned() from self._error
            if self._is_closed:
                raise CancelledError("the writer is closed", reason="CLOSED")
            self._window.add(pending)
            self._changed.notify_all()
            if self._worker is None:
                self._worker = asyncio.create_task(self._work())
        return pending

    async def flush(self, *, timeout_seconds: float | None = None) -> None:
        """Wait until everything sent is acknowledged.

        Raises:
            DeadlineExceededError: Not in time.
            LightMemError: What a request failed with.
        """
        async with self._changed:
            await self._wait_for(lambda: self._window.is_empty, timeout_seconds)
            if self._error is not None:
                raise self._error

    async def close(self, *, timeout_seconds: float | None = None) -> None:
        """Flush, then end the stream. Closing again does nothing more. Raises as `flush`."""
        async with self._changed:
            is_first, self._is_closed = not self._is_closed, True
            self._changed.notify_all()
        if not is_first:
            return
        try:
            await self.flush(timeout_seconds=timeout_seconds)
        except BaseException:
            if self._worker is not None:
                self._worker.cancel()
            raise
        finally:
            if self._worker is not None:
                await asyncio.wait([self._worker], timeout=self._timeout_seconds)

    async def _wait_for(self, is_reached: Callable[[], bool], timeout_seconds: float | None) -> None:
        seconds = bounded_seconds(self._timeout_seconds if timeout_seconds is None else timeout_seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait_for(lambda: self._error is not None or is_reached())
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"requests were not acknowledged within {seconds} s", reason="DEADLINE_EXCEEDED"
            ) from error

    async def _work(self) -> None:
        """The worker task. However it ends, nobody waits for it in vain."""
        try:
            await self._stream_until_closed()
        finally:
            await self._abandon(CancelledError("the writer ended before the acknowledgement", reason="CLOSED"))

    async def _stream_until_closed(self) -> None:
        """One stream after another until the writer is closed or fails."""
        failures, deadline = 0, Deadline(self._timeout_seconds)
        while await self._has_work():
            stream = _Stream()
            try:
                await self._converse(stream)
            except LightMemError as error:
                if failures == 0 or stream.has_progress:
                    failures, deadline = 0, Deadline(self._timeout_seconds)
                failures += 1
                seconds = self._retry.wait_seconds(failures, error)
                if not is_transient(error) or seconds >= deadline.remaining_seconds():
                    await self._abandon(error)
                    return
                await asyncio.sleep(seconds)
            else:
                failures = 0

    async def _has_work(self) -> bool:
        """Waits for something to send; False when there will be no more."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._window.is_empty or self._is_closed)
            self._window.rewind()
            return not self._window.is_empty

    async def _converse(self, stream: _Stream) -> None:
        """One stream, to its end. Raises LightMemError when it broke off with requests unanswered."""
        with typed_errors():
            call = self._open_stream(self._unsent_requests(stream))
        try:
            with typed_stream_errors(call):
                async for response in call:
                    async with self._changed:
                        pending = self._window.acknowledge(response.request_id)
                        stream.has_progress = True
                        pending._future.set_result(to_write_result(response))
                        self._changed.notify_all()
        except LightMemError:
            if not self._window.is_empty:
                raise
        finally:
            call.cancel()
            async with self._changed:
                stream.is_over = True
                self._changed.notify_all()
        if not self._window.is_empty:
            raise UnavailableError("the server ended the stream with requests unanswered", reason="STREAM_ENDED")

    async def _unsent_requests(self, stream: _Stream) -> AsyncIterator[WriteRequest]:
        """What gRPC sends, from a task of its own; its end is the end of our half of the stream."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: stream.is_over or self._is_closed or self._window.has_unsent)
                pending = None if stream.is_over else self._window.take_unsent()
            if pending is None:
                return
            yield pending.request

    async def _abandon(self, error: LightMemError) -> None:
        """The end of the writer: the oldest request failed with `error`, the others with it."""
        async with self._changed:
            pending = self._window.abandon()
            if pending and self._error is None:
                self._error = error
            self._changed.notify_all()
        for i, item in enumerate(pending):
            reason: LightMemError = error
            if i:
                reason = _abandoned()
                reason.__cause__ = error
            item._future.set_exception(reason)
            item._future.exception()  # `flush` reports it; nobody has to await each request
