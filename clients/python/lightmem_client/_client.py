"""The synchronous client: calls of _calls.py and the streams, over a grpc channel. Safe to use from several threads. As long as
there are calls: a method each."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
import tenacity
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lightmem_client import _calls
from lightmem_client import _results as results
from lightmem_client._codec_calls import (
    fold,
    to_backup_progress,
    to_export_part,
    to_import_requests,
    to_import_result,
    to_part,
    to_progress,
    to_retrieve_request,
    to_write_request,
    to_write_result,
)
from lightmem_client._connection import CHANNEL_OPTIONS, STREAMS_IN_CALLER, Connection, Tls, credentials, find_target
from lightmem_client._filters import Expression, MemoryFilter
from lightmem_client._retry import Deadline, RetryPolicy, retry_arguments
from lightmem_client._status import typed_errors
from lightmem_client._types import Memory, Turn
from lightmem_client._writer import Writer
from lightmem_client.errors import CancelledError, DeadlineExceededError, InternalError, LightMemError, UnavailableError
from lightmem_client.pb import admin_service_pb2 as admin_pb
from lightmem_client.pb import admin_service_pb2_grpc, memory_service_pb2_grpc
from lightmem_client.pb import memory_service_pb2 as pb

T = TypeVar("T")


class Client:
    """Speaks to one LightMem server.

    Nothing is opened before the first call. Every call raises a LightMemError subclass when it fails; what may be
    repeated is, with backoff, on UnavailableError and on OverloadedError that says when, within the call's timeout.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        api_key: str | None = None,
        user_id: str = "",
        agent_id: str = "",
        timeout_seconds: float = 30.0,
        tls: Tls | bool | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """
        Args:
            target: HOST:PORT. Default: LIGHTMEM_TARGET, else localhost:7420.
            api_key: Default: LIGHTMEM_API_KEY, else for a server on this machine the key that its first start left.
            user_id: For the calls that name no user.
            agent_id: For the calls that name no agent.
            timeout_seconds: For the calls that give none; repetitions included.
            tls: None: TLS unless the target is this machine. False: plain text, the key in the clear.
            retry: How often and how fast to repeat.
        """
        self._connection = Connection(
            find_target(target), api_key, user_id, agent_id, timeout_seconds, tls, retry or RetryPolicy()
        )
        self._lock = threading.Lock()
        self._opened: tuple[grpc.Channel, memory_service_pb2_grpc.MemoryServiceStub] | None = None
        self._is_closed = False

    @property
    def target(self) -> str:
        """Where the server is."""
        return self._connection.target

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; calls at work fail with CancelledError. Closing again does nothing."""
        with self._lock:
            self._is_closed = True
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()

    def write(
        self,
        turns: str | Turn | Iterable[str | Turn],
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> results.WriteResult:
        """Store one turn or several, whole or not at all; when it returns, they are on disk and can be found.

        Raises:
            AlreadyExistsError: `request_id` came before with other content.
        """
        scope = self._connection.scope(user_id, agent_id, session_id)
        request = to_write_request(scope, turns, request_id)
        deadline = self._connection.deadline(timeout_seconds)

        def attempt() -> results.WriteResult:
            with typed_errors():
                call = self._memory_stub().Write(
                    iter((request,)), timeout=deadline.remaining_seconds(), metadata=self._connection.metadata()
                )
                responses = [to_write_result(response) for response in call]
            if len(responses) != 1:
                raise InternalError(f"one request got {len(responses)} answers", reason="INCOMPLETE_ANSWER")
            return responses[0]

        return self._repeat(attempt, deadline)

    def open_writer(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        max_in_flight: int = 32,
    ) -> Writer:
        """A stream for many writes to one scope: fast, in order, and it survives a lost connection.

        Args:
            max_in_flight: Most requests without acknowledgement; beyond it `send` waits.
        """
        return Writer(
            lambda requests: self._memory_stub().Write(requests, metadata=self._connection.metadata()),
            self._connection.scope(user_id, agent_id, session_id),
            retry=self._connection.retry,
            timeout_seconds=self._connection.timeout_seconds,
            max_in_flight=max_in_flight,
        )

    def retrieve(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        timeout_seconds: float | None = None,
        **options: Unpack[results.RetrieveOptions],
    ) -> results.RetrieveResult:
        """What the agent needs to know now; `session_id` names the running conversation. Options: RetrieveOptions."""
        scope = self._connection.scope(user_id, agent_id, session_id)
        request = to_retrieve_request(scope, query, options)
        deadline = self._connection.deadline(timeout_seconds)
        has_trace = not request.exclude_trace
        return self._repeat(
            lambda: fold(self._receive(self._open_retrieve(request, deadline)), has_trace=has_trace), deadline
        )

    def retrieve_stream(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        timeout_seconds: float | None = None,
        **options: Unpack[results.RetrieveOptions],
    ) -> Iterator[results.RetrievePart]:
        """As `retrieve`, part by part as they come. Leaving the loop early cancels the call."""
        scope = self._connection.scope(user_id, agent_id, session_id)
        request = to_retrieve_request(scope, query, options)
        deadline = self._connection.deadline(timeout_seconds)

        def begin() -> tuple[Iterator[results.RetrievePart], results.RetrievePart | None]:
            parts = self._receive(self._open_retrieve(request, deadline))
            return parts, next(parts, None)

        def parts() -> Iterator[results.RetrievePart]:
            rest, first = self._repeat(begin, deadline)  # repeated only until something has come
            if first is not None:
                yield first
                yield from rest

        return parts()

    def explain(
        self,
        query: str,
        memory_id: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        timeout_seconds: float | None = None,
        **options: Unpack[results.RetrieveOptions],
    ) -> results.Explanation:
        """Why a memory is, or is not, among what `retrieve` with the same arguments returns. Raises NotFoundError."""
        request = to_retrieve_request(self._connection.scope(user_id, agent_id, session_id), query, options)
        return self._run(_calls.explain(request, memory_id), timeout_seconds)

    def get(self, memory_id: str, *, user_id: str | None = None, timeout_seconds: float | None = None) -> Memory:
        """One memory. Raises NotFoundError."""
        return self._run(_calls.get_memory(self._connection.scope(user_id), memory_id), timeout_seconds)

    def list(
        self,
        *,
        user_id: str | None = None,
        filter: MemoryFilter | Expression | None = None,
        page_size: int = 100,
        timeout_seconds: float | None = None,
    ) -> Iterator[Memory]:
        """All memories, newest first, fetched page by page as the iterator goes; the timeout is a page's."""
        scope = self._connection.scope(user_id)
        return self._pages(lambda token: _calls.list_memories(scope, filter, page_size, token), timeout_seconds)

    def update(
        self,
        memory_id: str,
        *,
        user_id: str | None = None,
        expected_version: int | None = None,
        timeout_seconds: float | None = None,
        **changes: Unpack[results.MemoryChanges],
    ) -> Memory:
        """Change metadata, is_pinned or expires_at; what is left out stays.

        With `expected_version` it is repeated when the server can't be reached; an AbortedError may then also mean that
        the first attempt went through: read again, then decide.

        Raises:
            NotFoundError: No such memory.
            AbortedError: The memory is not at `expected_version`.
        """
        call = _calls.update_memory(self._connection.scope(user_id), memory_id, changes, expected_version)
        return self._run(call, timeout_seconds)

    def delete(self, memory_id: str, *, user_id: str | None = None, timeout_seconds: float | None = None) -> None:
        """Delete one memory for good. Raises NotFoundError when it wasn't there before the first attempt."""
        self._run(_calls.delete_memory(self._connection.scope(user_id), memory_id), timeout_seconds)

    def history(
        self, memory_id: str, *, user_id: str | None = None, timeout_seconds: float | None = None
    ) -> tuple[results.MemoryVersion, ...]:
        """Every version of one memory, oldest first, with what made it so. Raises NotFoundError."""
        return self._run(_calls.get_history(self._connection.scope(user_id), memory_id), timeout_seconds)

    def get_context(
        self,
        session_id: str,
        *,
        user_id: str | None = None,
        max_turns: int | None = None,
        timeout_seconds: float | None = None,
    ) -> tuple[Memory, ...]:
        """The running conversation of a session, oldest first; empty when there is none."""
        scope = self._connection.scope(user_id, session_id=session_id)
        return self._run(_calls.get_context(scope, max_turns), timeout_seconds)

    def stats(self, *, user_id: str | None = None, timeout_seconds: float | None = None) -> results.Stats:
        """Figures of the whole namespace, or of one user when one is given here. Needs an admin key."""
        return self._run(_calls.get_stats(user_id), timeout_seconds)

    def consolidate(
        self, *, user_id: str | None = None, timeout_seconds: float | None = None
    ) -> Iterator[results.ConsolidationProgress]:
        """Turn a user's new turns into summaries and facts now, or follow the run at work; yields until it ends. Leaving the
        loop early stops nothing. Needs an admin key.

        Args:
            timeout_seconds: Of the whole run. None: none.

        Raises:
            FailedPreconditionError: Consolidation is off, or the run was cancelled.
            UnavailableError: The run failed and is tried again later, or the server can't be reached.
        """
        request = admin_pb.ConsolidateRequest(user_id=self._connection.scope(user_id).user_id)

        def moments() -> Iterator[results.ConsolidationProgress]:
            with typed_errors():
                stub = admin_service_pb2_grpc.AdminServiceStub(self._open())
                call = stub.Consolidate(request, timeout=timeout_seconds, metadata=self._connection.metadata())
                try:
                    for response in call:
                        yield to_progress(response)
                finally:
                    call.cancel()

        return moments()

    def cancel_consolidation(
        self, *, user_id: str | None = None, timeout_seconds: float | None = None
    ) -> results.CancelledConsolidation:
        """End a user's run, and drop what waits; what the run had stored stays. Needs an admin key."""
        call = _calls.cancel_consolidation(self._connection.scope(user_id).user_id)
        return self._run(call, timeout_seconds)

    def undo_consolidation(self, run_id: str, *, timeout_seconds: float | None = None) -> results.UndoneConsolidation:
        """Take back everything that a run changed. Needs an admin key.

        Raises:
            NotFoundError: No such run.
            FailedPreconditionError: A run is at work, a later run builds on this one, or a user changed what it made.
        """
        return self._run(_calls.undo_consolidation(run_id), timeout_seconds)

    def erase_user(self, user_id: str, *, timeout_seconds: float = 120.0) -> results.Erasure:
        """Remove everything of a user, its bytes on disk too. What the user writes afterwards is a new user's; keys stay. Never
        repeated by itself: repeat it when it fails. There is no default for the user. Needs an admin key.

        Raises:
            UnavailableError: Not done, or, reason ERASURE_INCOMPLETE, not to the last byte: call again.
        """
        return self._run(_calls.erase_user(user_id), timeout_seconds)

    def backup(self, name: str = "", *, timeout_seconds: float | None = None) -> Iterator[results.BackupProgress]:
        """Copy the whole store to a file on the server's machine while the server goes on; yields until the copy is complete,
        verified and on disk. Leaving the loop early leaves no file. Never repeated by itself. Needs an admin key.

        Args:
            name: Within the server's folder of backups. "": the time.
            timeout_seconds: Of the whole backup. None: none.

        Raises:
            FailedPreconditionError: A backup of this name is there, or another one is being made.
            UnavailableError: No room, the disk refused, or the server can't be reached.
        """
        request = admin_pb.BackupRequest(name=name)

        def moments() -> Iterator[results.BackupProgress]:
            with typed_errors():
                stub = admin_service_pb2_grpc.AdminServiceStub(self._open())
                call = stub.Backup(request, timeout=timeout_seconds, metadata=self._connection.metadata())
                try:
                    for response in call:
                        yield to_backup_progress(response)
                finally:
                    call.cancel()

        return moments()

    def export_user(self, user_id: str, *, timeout_seconds: float | None = None) -> Iterator[results.ExportPart]:
        """Everything of a user, as of one moment, part by part as it is read: lines of JSON that make a file. Needs an admin
        key.

        Args:
            timeout_seconds: Of the whole export. None: none.

        Raises:
            AbortedError: The user was erased meanwhile.
        """
        request = admin_pb.ExportUserRequest(user_id=user_id)

        def parts() -> Iterator[results.ExportPart]:
            with typed_errors():
                stub = admin_service_pb2_grpc.AdminServiceStub(self._open())
                call = stub.ExportUser(request, timeout=timeout_seconds, metadata=self._connection.metadata())
                try:
                    for response in call:
                        yield to_export_part(response)
                finally:
                    call.cancel()

        return parts()

    def import_user(
        self, user_id: str, lines: Iterable[str], *, timeout_seconds: float | None = None
    ) -> results.ImportResult:
        """Take in what `export_user` gave, ids kept. What is there already stays; so when it fails, send everything again.
        Needs an admin key.

        Args:
            lines: Of the export, in order, with or without line feeds; read as they are sent.
            timeout_seconds: Of the whole import. None: none.

        Raises:
            InvalidArgumentError: A line is refused; the message has its number. Those before it may be stored.
            AlreadyExistsError: A memory is there with other content.
            FailedPreconditionError: A memory was deleted there, or a consolidation is at work.
        """
        with typed_errors():
            stub = admin_service_pb2_grpc.AdminServiceStub(self._open())
            response = stub.ImportUser(
                to_import_requests(user_id, lines), timeout=timeout_seconds, metadata=self._connection.metadata()
            )
        return to_import_result(response)

    def create_key(
        self,
        *,
        label: str = "",
        user_ids: Iterable[str] = (),
        is_admin: bool = False,
        expires_at: datetime | None = None,
        namespace: str = "",
        timeout_seconds: float | None = None,
    ) -> results.CreatedKey:
        """Make a key; for no users: for all. Never repeated by itself. Needs an admin key.

        Args:
            namespace: Whose memories it opens, where that is another namespace than the caller's; the server's operator alone.
        """
        return self._run(_calls.create_key(label, user_ids, is_admin, expires_at, namespace), timeout_seconds)

    def list_keys(self, *, namespace: str = "", timeout_seconds: float | None = None) -> Iterator[results.ApiKey]:
        """A namespace's keys, the caller's by default, in the order of their ids, without their secrets. Needs an admin key."""
        return self._pages(functools.partial(_calls.list_keys, namespace), timeout_seconds)

    def rotate_key(
        self, key_id: str, *, overlap_seconds: float = 0.0, timeout_seconds: float | None = None
    ) -> results.CreatedKey:
        """Put a new key with the same rights in a key's place. Never repeated by itself. Needs an admin key.

        Args:
            overlap_seconds: How long the old key goes on working; 0: not at all.

        Raises:
            NotFoundError: No such key.
            FailedPreconditionError: It is revoked or has expired.
        """
        return self._run(_calls.rotate_key(key_id, overlap_seconds), timeout_seconds)

    def revoke_key(self, key_id: str, *, timeout_seconds: float | None = None) -> results.ApiKey:
        """Make a key useless at once. Raises NotFoundError. Needs an admin key."""
        return self._run(_calls.revoke_key(key_id), timeout_seconds)

    def is_healthy(self, *, timeout_seconds: float = 5.0) -> bool:
        """Whether a server answers and is ready. Needs no key."""
        try:
            with typed_errors():
                response = health_pb2_grpc.HealthStub(self._open()).Check(
                    health_pb2.HealthCheckRequest(), timeout=timeout_seconds
                )
        except LightMemError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_ready(self, *, timeout_seconds: float | None = None) -> None:
        """Wait until the server is there and ready. Needs no key.

        Raises:
            DeadlineExceededError: It isn't in time.
        """
        deadline = self._connection.deadline(timeout_seconds)
        policy = RetryPolicy(max_attempts=1_000_000)  # the deadline ends it

        def attempt() -> None:
            with typed_errors():
                call = health_pb2_grpc.HealthStub(self._open()).Watch(
                    health_pb2.HealthCheckRequest(), timeout=deadline.remaining_seconds(), wait_for_ready=True
                )
                for response in call:
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        call.cancel()
                        return
            raise UnavailableError("the server stopped answering", reason="STREAM_ENDED")

        try:
            tenacity.Retrying(**retry_arguments(policy, deadline, is_repeatable=True))(attempt)
        except (DeadlineExceededError, UnavailableError) as error:
            raise DeadlineExceededError(f"no server is ready at {self.target}", reason="NOT_READY") from error

    def _open(self) -> grpc.Channel:
        return self._open_with_stub()[0]

    def _memory_stub(self) -> memory_service_pb2_grpc.MemoryServiceStub:
        return self._open_with_stub()[1]

    def _open_with_stub(self) -> tuple[grpc.Channel, memory_service_pb2_grpc.MemoryServiceStub]:
        with self._lock:
            if self._is_closed:
                raise CancelledError("the client is closed", reason="CLOSED")
            if self._opened is None:
                target, secret = self.target, credentials(self.target, self._connection.tls)
                options = (*CHANNEL_OPTIONS, STREAMS_IN_CALLER)
                channel = (
                    grpc.insecure_channel(target, options=options)
                    if secret is None
                    else grpc.secure_channel(target, secret, options=options)
                )
                self._opened = channel, memory_service_pb2_grpc.MemoryServiceStub(channel)
            return self._opened

    def _open_retrieve(self, request: pb.RetrieveRequest, deadline: Deadline) -> Any:
        return self._memory_stub().Retrieve(
            request, timeout=deadline.remaining_seconds(), metadata=self._connection.metadata()
        )

    @staticmethod
    def _receive(call: Any) -> Iterator[results.RetrievePart]:
        try:
            with typed_errors():
                for response in call:
                    part = to_part(response)
                    if part is not None:
                        yield part
        finally:
            call.cancel()

    def _run(self, call: _calls.UnaryCall[T], timeout_seconds: float | None) -> T:
        deadline = self._connection.deadline(timeout_seconds)
        attempts = _calls.Attempts(call)

        def attempt() -> T:
            try:
                with typed_errors():
                    response = self._method(call)(
                        call.request, timeout=deadline.remaining_seconds(), metadata=self._connection.metadata()
                    )
            except LightMemError as error:
                if not attempts.settles(error):
                    raise
                response = None
            return call.decode(response)

        return self._repeat(attempt, deadline, is_repeatable=call.is_repeatable)

    def _method(self, call: _calls.UnaryCall[Any]) -> Callable[..., Any]:
        if call.service == "admin":
            stub: object = admin_service_pb2_grpc.AdminServiceStub(self._open())
        else:
            stub = self._memory_stub()
        method: Callable[..., Any] = getattr(stub, call.name)
        return method

    def _repeat(self, attempt: Callable[[], T], deadline: Deadline, *, is_repeatable: bool = True) -> T:
        arguments = retry_arguments(self._connection.retry, deadline, is_repeatable=is_repeatable)
        return tenacity.Retrying(**arguments)(attempt)

    def _pages(
        self, page_call: Callable[[str], _calls.UnaryCall[_calls.Page[T]]], timeout_seconds: float | None
    ) -> Iterator[T]:
        token = ""
        while True:
            page = self._run(page_call(token), timeout_seconds)
            yield from page.items
            token = page.next_page_token
            if not token:
                return
