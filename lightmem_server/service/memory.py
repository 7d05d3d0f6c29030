"""MemoryService: what agents call."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, TypeVar

from lightmem_server.config import Settings
from lightmem_server.errors import (
    InvalidInputError,
    LightMemError,
    NotFoundError,
)
from lightmem_server.pb import memory_pb2, memory_service_pb2_grpc
from lightmem_server.pb import memory_service_pb2 as pb
from lightmem_server.pipeline.retrieval import Coarse, Context, Part, RetrieveQuery, Selected, Trace
from lightmem_server.pipeline.write import WriteBatch
from lightmem_server.service import convert, convert_retrieval
from lightmem_server.service.admission import Admission
from lightmem_server.service.auth import caller
from lightmem_server.service.backend import Backend
from lightmem_server.service.interceptors import Context as RpcContext
from lightmem_server.types import Partition, Tier

T = TypeVar("T")
R = TypeVar("R")

READ_AHEAD_REQUESTS = 32
"""Requests of one Write stream that are read before the first is stored: they share embedding batches. What is beyond
waits in the client, by gRPC's flow control."""

SHORT_WRITE_TURNS = 2
"""An agent waits for the ack of so few turns, as for an answer; more are written in bulk."""

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_REQUEST_ID_BYTES = 128

EXPLANATIONS = {
    "write": "It was stored.",
    "update": "A user changed it.",
    "archive": "It left search for lack of room.",
    "relink": "The turn before it was deleted.",
    "lose_evidence": "A turn that supported it was deleted.",
    "undo": "A consolidation run was undone.",
    "add": "It was abstracted from its evidence.",
    "reinforce": "It was said again.",
    "supersede": "A newer statement took its place.",
    "end": "It was said to hold no longer.",
    "fade": "It was said once, long ago, and not asked for since.",
    "summarise": "It tells of its evidence.",
    "profile": "It was put together from what is known.",
}
"""Of the reasons in the store; a reason without a sentence speaks for itself."""

_END: Literal["end"] = "end"
_Arrival: TypeAlias = WriteBatch | LightMemError | Literal["end"] | None
"""What is read from a Write stream: a request, the error that ends it, its end; None for nothing yet."""


class MemoryServicer(memory_service_pb2_grpc.MemoryServiceServicer):
    """Checks, calls the pipeline, converts back."""

    def __init__(self, settings: Settings, backend: Callable[[], Backend], admission: Admission) -> None:
        """`backend` is called per RPC, after the interceptor has seen that the server is ready."""
        self._settings = settings
        self._backend = backend
        self._admission = admission

    async def Write(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.WriteRequest], context: RpcContext
    ) -> AsyncIterator[pb.WriteResponse]:
        """Store turns; see the proto."""
        async with contextlib.aclosing(self._group(request_iterator)) as groups:
            async for group in groups:
                foreground, writing = self._backend().foreground, self._backend().writing
                is_short = sum(len(batch.turns) for batch in group) <= SHORT_WRITE_TURNS
                with foreground.reading() if is_short else foreground.busy():
                    turn = self._admission.writes.turn(group[0].partition)
                    async with turn, contextlib.aclosing(writing.write(group)) as acks:
                        async for ack in acks:
                            yield pb.WriteResponse(
                                request_id=ack.request_id,
                                memory_ids=[str(id_) for id_ in ack.memory_ids],
                                is_replay=ack.is_replay,
                            )

    async def _group(self, requests: AsyncIterator[pb.WriteRequest]) -> AsyncGenerator[Sequence[WriteBatch], None]:
        """What has arrived on a stream, as runs of one user's requests with at most max_turns_per_request turns.

        A request that is refused ends the stream only after those before it were handed on.
        """
        waiting: asyncio.Queue[_Arrival] = asyncio.Queue(READ_AHEAD_REQUESTS)
        reader = asyncio.create_task(self._read(requests, waiting))
        try:
            arrival = await waiting.get()
            while isinstance(arrival, WriteBatch):
                group = [arrival]
                turn_count = len(arrival.turns)
                while True:
                    arrival = None if waiting.empty() else waiting.get_nowait()
                    if not isinstance(arrival, WriteBatch) or arrival.partition != group[0].partition:
                        break
                    turn_count += len(arrival.turns)
                    if turn_count > self._settings.max_turns_per_request:
                        break
                    group.append(arrival)
                yield group
                if arrival is None:
                    arrival = await waiting.get()
            if isinstance(arrival, LightMemError):
                raise arrival
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[pb.WriteRequest], waiting: asyncio.Queue[_Arrival]) -> None:
        try:
            async for request in requests:
                await waiting.put(self._to_batch(request))
        except LightMemError as error:
            await waiting.put(error)
        else:
            await waiting.put(_END)

    def _to_query(self, request: pb.RetrieveRequest) -> RetrieveQuery:
        arrived_at = time.monotonic()
        partition = self._partition(request.scope)
        now = self._backend().clock.now()
        return convert_retrieval.to_query(request, partition, self._settings, now=now, arrived_at=arrived_at)

    def _to_batch(self, request: pb.WriteRequest) -> WriteBatch:
        partition = self._partition(request.scope)
        limit = self._settings.max_turns_per_request
        if not 1 <= len(request.turns) <= limit:
            reason = "TOO_MANY" if request.turns else "REQUIRED"
            raise InvalidInputError("turns", f"must be 1 to {limit} turns", reason=reason)
        if len(request.request_id.encode()) > MAX_REQUEST_ID_BYTES:
            raise InvalidInputError("request_id", f"is longer than {MAX_REQUEST_ID_BYTES} bytes", reason="TOO_LONG")
        return WriteBatch(
            partition=partition,
            turns=[convert.to_turn(turn, f"turns[{i}]", self._settings) for i, turn in enumerate(request.turns)],
            agent_id=convert.to_name(request.scope.agent_id, "scope.agent_id"),
            session_id=convert.to_name(request.scope.session_id, "scope.session_id"),
            request_id=convert.to_name(request.request_id, "request_id"),
        )

    async def Retrieve(  # noqa: N802
        self, request: pb.RetrieveRequest, context: RpcContext
    ) -> AsyncIterator[pb.RetrieveResponse]:
        """Find what the agent needs to know; see the proto."""
        query = self._to_query(request)
        user_id = query.partition.user_id
        foreground, retrieving = self._backend().foreground, self._backend().retrieving
        with foreground.reading():
            turn = self._admission.reads.turn(query.partition)
            parts = retrieving.retrieve(query)
            least = self._settings.shared_min_users
            ahead = work_ahead(parts, lambda part: (part, _to_response(part, user_id, least)))
            async with turn, contextlib.aclosing(ahead) as made:
                async for part, response in made:
                    _check_deadline(context)
                    yield response
                    if isinstance(part, Selected):
                        self._backend().access.record(
                            query.partition, [candidate.memory_id for candidate in part.candidates]
                        )

    async def Explain(self, request: pb.ExplainRequest, context: RpcContext) -> pb.ExplainResponse:  # noqa: N802
        """Why a memory was, or was not, returned; see the proto."""
        query = self._to_query(request.retrieve)
        memory_id = convert.to_memory_id(request.memory_id)
        async with self._admission.reads.turn(query.partition):
            return convert_retrieval.from_explanation(await self._backend().retrieving.explain(query, memory_id))

    async def GetContext(  # noqa: N802
        self, request: pb.GetContextRequest, context: RpcContext
    ) -> pb.GetContextResponse:
        """The running conversation; see the proto."""
        partition = self._partition(request.scope)
        session_id = convert.to_name(request.scope.session_id, "scope.session_id")
        turns = await self._backend().retrieving.read_context(partition, session_id)
        if request.max_turns:
            turns = turns[-request.max_turns :]
        return pb.GetContextResponse(
            turns=[convert.from_memory(turn, partition.user_id, tier=Tier.STM) for turn in turns]
        )

    async def GetMemory(self, request: pb.GetMemoryRequest, context: RpcContext) -> pb.GetMemoryResponse:  # noqa: N802
        """One memory; see the proto."""
        partition = self._partition(request.scope)
        (memory,) = await self._backend().store.get(partition, [convert.to_memory_id(request.memory_id)])
        if memory is None:
            raise NotFoundError("no such memory")
        return pb.GetMemoryResponse(memory=convert.from_memory(memory, partition.user_id))

    async def ListMemories(  # noqa: N802
        self, request: pb.ListMemoriesRequest, context: RpcContext
    ) -> pb.ListMemoriesResponse:
        """A page of memories; see the proto."""
        partition = self._partition(request.scope)
        record_filter = convert.to_filter(request.filter)
        if request.page_size > MAX_PAGE_SIZE:
            raise InvalidInputError("page_size", f"is more than {MAX_PAGE_SIZE}", reason="OUT_OF_RANGE")
        listing = partition.key.encode() + b"\0" + request.filter.SerializeToString(deterministic=True)
        page = await self._backend().store.list_page(
            partition,
            record_filter,
            limit=request.page_size or DEFAULT_PAGE_SIZE,
            before_order=_from_page_token(request.page_token, listing),
            now=self._backend().clock.now(),
        )
        return pb.ListMemoriesResponse(
            memories=[convert.from_memory(memory, partition.user_id) for memory in page.memories],
            next_page_token="" if page.next_order is None else _to_page_token(page.next_order, listing),
        )

    async def UpdateMemory(  # noqa: N802
        self, request: pb.UpdateMemoryRequest, context: RpcContext
    ) -> pb.UpdateMemoryResponse:
        """Change metadata, pin or expiry; see the proto."""
        partition = self._partition(request.scope)
        memory_id = convert.to_memory_id(request.memory.id, "memory.id")
        changes = self._to_changes(request)
        memory = await self._backend().editing.update(
            partition, memory_id, lambda memory: replace(memory, **changes), expected_version=request.expected_version
        )
        return pb.UpdateMemoryResponse(memory=convert.from_memory(memory, partition.user_id))

    def _to_changes(self, request: pb.UpdateMemoryRequest) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if not request.update_mask.paths:
            raise InvalidInputError("update_mask", "is required", reason="REQUIRED")
        for path in request.update_mask.paths:
            if path == "metadata":
                limit = self._settings.max_metadata_bytes
                changes[path] = convert.to_metadata(request.memory.metadata, "memory.metadata", limit)
            elif path == "is_pinned":
                changes[path] = request.memory.is_pinned
            elif path == "expires_at":
                has_value = request.memory.HasField("expires_at")
                changes[path] = convert.to_micros(request.memory.expires_at, "memory.expires_at") if has_value else None
            else:
                raise InvalidInputError("update_mask", f"'{path[:64]}' cannot be changed", reason="FIELD_NOT_MUTABLE")
        return changes

    async def DeleteMemory(  # noqa: N802
        self, request: pb.DeleteMemoryRequest, context: RpcContext
    ) -> pb.DeleteMemoryResponse:
        """Delete one memory; see the proto."""
        await self._backend().editing.delete(self._partition(request.scope), convert.to_memory_id(request.memory_id))
        return pb.DeleteMemoryResponse()

    async def GetMemoryHistory(  # noqa: N802
        self, request: pb.GetMemoryHistoryRequest, context: RpcContext
    ) -> pb.GetMemoryHistoryResponse:
        """Every version of one memory; see the proto."""
        partition = self._partition(request.scope)
        entries = await self._backend().store.history(partition, convert.to_memory_id(request.memory_id))
        if not entries:
            raise NotFoundError("no such memory")
        return pb.GetMemoryHistoryResponse(
            changes=[
                pb.GetMemoryHistoryResponse.Change(
                    memory=convert.from_memory(entry.memory, partition.user_id),
                    changed_at=convert.from_micros(entry.changed_at),
                    cause=entry.reason if entry.run_id is None else str(entry.run_id),
                    explanation=EXPLANATIONS.get(entry.reason, entry.reason),
                )
                for entry in entries
            ]
        )

    @staticmethod
    def _partition(scope: memory_pb2.Scope) -> Partition:
        """The partition that the caller names, if its key is for that user. The other names are bounded too where they play
        no part."""
        convert.to_name(scope.agent_id, "scope.agent_id")
        convert.to_name(scope.session_id, "scope.session_id")
        return caller.get().partition(convert.to_name(scope.user_id, "scope.user_id", is_required=True))


async def work_ahead(parts: AsyncGenerator[T, None], make: Callable[[T], R]) -> AsyncGenerator[R, None]:
    """Makes something of each part, the next one while the one before is on its way: gRPC takes a part only when the last has
    left. Closes `parts`."""

    async def make_next() -> R | None:
        part = await anext(parts, None)
        return None if part is None else make(part)

    coming = asyncio.create_task(make_next())
    try:
        while (made := await coming) is not None:
            coming = asyncio.create_task(make_next())
            yield made
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await parts.aclose()


def _to_response(part: Part, user_id: str, min_shared_users: int) -> pb.RetrieveResponse:
    match part:
        case Context(turns):
            messages = [convert.from_memory(turn, user_id, tier=Tier.STM) for turn in turns]
            return pb.RetrieveResponse(context=pb.RetrieveContext(turns=messages))
        case Coarse(candidates):
            hits = [convert_retrieval.from_candidate(candidate, user_id, is_coarse=True) for candidate in candidates]
            return pb.RetrieveResponse(coarse=pb.CoarseHits(hits=hits))
        case Selected(candidates, packed_context, token_count, shared):
            return pb.RetrieveResponse(
                memories=pb.RetrievedMemories(
                    memories=[convert_retrieval.from_candidate(candidate, user_id) for candidate in candidates],
                    packed_context=packed_context,
                    token_count=token_count,
                    shared_memories=[
                        convert_retrieval.from_candidate(candidate, "", min_users=min_shared_users)
                        for candidate in shared
                    ],
                )
            )
        case Trace():
            return pb.RetrieveResponse(trace=convert_retrieval.from_trace(part))


def _check_deadline(context: RpcContext) -> None:
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise TimeoutError


def _to_page_token(order: int, listing: bytes) -> str:
    """Where a listing goes on, bound to what is listed."""
    return base64.urlsafe_b64encode(order.to_bytes(8) + _tag(listing)).decode()


def _from_page_token(token: str, listing: bytes) -> int | None:
    if not token:
        return None
    try:
        data = base64.b64decode(token, altchars=b"-_", validate=True)
    except ValueError:
        data = b""
    if len(data) != 16 or data[8:] != _tag(listing):
        raise InvalidInputError("page_token", "is not of this listing", reason="BAD_PAGE_TOKEN")
    return int.from_bytes(data[:8])


def _tag(listing: bytes) -> bytes:
    return hashlib.sha256(listing).digest()[:8]
