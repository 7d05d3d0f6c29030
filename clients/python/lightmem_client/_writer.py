"""The synchronous writer: one Write stream kept open, acknowledgements in order, reconnecting by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from lightmem_client._codec import to_count
from lightmem_client._codec_calls import to_write_request, to_write_result
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

OpenStream = Callable[[Iterator[WriteRequest]], Any]
"""Begins a Write call. Any: grpc's call is an iterator of responses and a future at once, which has no type."""


class PendingWrite:
    """A request on its way."""

    def __init__(self, request: WriteRequest) -> None:
        self.request = request
        self._future: Future[WriteResult] = Future()

    @property
    def request_id(self) -> str:
        """What makes sending it again harmless."""
        return self.request.request_id

    @property
    def is_done(self) -> bool:
        """Whether `result` answers at once."""
        return self._future.done()

    def result(self, *, timeout_seconds: float | None = None) -> WriteResult:
        """Wait for the acknowledgement.

        Raises:
            DeadlineExceededError: None came in time; the request stays on its way.
            LightMemError: It was refused, or an earlier one was.
        """
        try:
            return self._future.result(timeout_seconds)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"no acknowledgement within {timeout_seconds} s", reason="DEADLINE_EXCEEDED"
            ) from error


def _abandoned() -> WriteAbandonedError:
    return WriteAbandonedError("an earlier request of this writer failed", reason="WRITE_ABANDONED")


class _Stream:
    """One connection of a writer; when it is over, its request iterator must end."""

    is_over = False
    has_progress = False


class Writer:
    """Streams turns of one scope. Made by `Client.open_writer`; safe to use from several threads.

    When the connection breaks, it reconnects with backoff and sends again what was not acknowledged, with the same
    request_ids, so nothing is stored twice. A request that is refused ends the writer: its error goes to its
    PendingWrite, those behind it get WriteAbandonedError, and so does every later `send`.
    """

    def __init__(
        self, open_stream: OpenStream, scope: Scope, *, retry: RetryPolicy, timeout_seconds: float, max_in_flight: int
    ) -> None:
        self._open_stream = open_stream
        self._scope = scope
        self._retry = retry
        self._timeout_seconds = timeout_seconds
        self._changed = threading.Condition()
        self._window: Window[PendingWrite] = Window(to_count(max_in_flight, "max_in_flight"))
        self._worker: threading.Thread | None = None
        self._call: Any = None
        self._error: LightMemError | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except LightMemError:
            if error is None:  # what went wrong inside the block matters more
                raise

    def send(
        self,
        turns: str | Turn | Iterable[str | Turn],
        *,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> PendingWrite:
        """Hand over one request of one or several turns. Returns at once, or waits while the window is full.

        Raises:
            InvalidArgumentError: A value that cannot be sent; the writer stays usable.
            DeadlineExceededError: The window stayed full; the request was not taken in.
            WriteAbandonedError: An earlier request failed.
            CancelledError: The writer is closed.
        """
        pending = PendingWrite(to_write_request(self._scope, turns, request_id))
        with self._changed:
            self._wait_for(lambda: not self._window.is_full or self._is_closed, timeout_seconds)
            if self._error is not None:
                raise _abandoned() from self._error
            if self._is_closed:
                raise CancelledError("the writer is closed", reason="CLOSED")
            self._window.add(pending)
            self._changed.notify_all()
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="lightmem-writer", daemon=True)
                self._worker.start()
        return pending

    def flush(self, *, timeout_seconds: float | None = None) -> None:
        """Wait until everything sent is acknowledged.

        Raises:
            DeadlineExceededError: Not in time.
            LightMemError: What a request failed with.
        """
        with self._changed:
            self._wait_for(lambda: self._window.is_empty, timeout_seconds)
            if self._error is not None:
                raise self._error

    def close(self, *, timeout_seconds: float | None = None) -> None:
        """Flush, then end the stream. Closing again does nothing more. Raises as `flush`."""
        with self._changed:
            is_first, self._is_closed = not self._is_closed, True
            self._changed.notify_all()
        if not is_first:
            return
        try:
            self.flush(timeout_seconds=timeout_seconds)
        except DeadlineExceededError:
            self._abandon(CancelledError("the writer was closed before the acknowledgement", reason="CLOSED"))
            raise
        finally:
            if self._worker is not None:
                self._worker.join(self._timeout_seconds)

    def _wait_for(self, is_reached: Callable[[], bool], timeout_seconds: float | None) -> None:
        seconds = bounded_seconds(self._timeout_seconds if timeout_seconds is None else timeout_seconds)
        if not self._changed.wait_for(lambda: self._error is not None or is_reached(), seconds):
            raise DeadlineExceededError(
                f"requests were not acknowledged within {seconds} s", reason="DEADLINE_EXCEEDED"
            )

    def _work(self) -> None:
        """The worker thread. However it ends, nobody waits for it in vain."""
        try:
            self._stream_until_closed()
        finally:
            self._abandon(CancelledError("the writer ended before the acknowledgement", reason="CLOSED"))

    def _stream_until_closed(self) -> None:
        """One stream after another until the writer is closed or fails."""
        failures, deadline = 0, Deadline(self._timeout_seconds)
        while self._has_work():
            stream = _Stream()
            try:
                self._converse(stream)
            except LightMemError as error:
                if failures == 0 or stream.has_progress:
                    failures, deadline = 0, Deadline(self._timeout_seconds)
                failures += 1
                seconds = self._retry.wait_seconds(failures, error)
                if not is_transient(error) or seconds >= deadline.remaining_seconds():
                    self._abandon(error)
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._error is not None, seconds)
            else:
                failures = 0

    def _has_work(self) -> bool:
        """Waits for something to send; False when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._window.is_empty or self._is_closed or self._error is not None)
            self._window.rewind()
            return not self._window.is_empty

    def _converse(self, stream: _Stream) -> None:
        """One stream, to its end. Raises LightMemError when it broke off with requests unanswered."""
        try:
            with typed_errors():
                call = self._call = self._open_stream(self._unsent_requests(stream))
                for response in call:
                    with self._changed:
                        pending = self._window.acknowledge(response.request_id)
                        stream.has_progress = True
                        pending._future.set_result(to_write_result(response))
                        self._changed.notify_all()
        except LightMemError:
            with self._changed:
                if not self._window.is_empty:
                    raise
        finally:
            with self._changed:
                stream.is_over = True
                self._changed.notify_all()
            if self._call is not None:
                self._call.cancel()
        with self._changed:
            if not self._window.is_empty:
                raise UnavailableError("the server ended the stream with requests unanswered", reason="STREAM_ENDED")

    def _unsent_requests(self, stream: _Stream) -> Iterator[WriteRequest]:
        """What gRPC sends, from its own thread; its end is the end of our half of the stream."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: stream.is_over or self._is_closed or self._window.has_unsent)
                pending = None if stream.is_over else self._window.take_unsent()
            if pending is None:
                return
            yield pending.request

    def _abandon(self, error: LightMemError) -> None:
        """The end of the writer: the oldest request failed with `error`, the others with it."""
        with self._changed:
            pending = self._window.abandon()
            if pending and self._error is None:
                self._error = error
            call = self._call
            self._changed.notify_all()
        for i, item in enumerate(pending):
            reason: LightMemError = error
            if i:
                reason = _abandoned()
                reason.__cause__ = error
            item._future.set_exception(reason)
        if call is not None:
            call.cancel()
