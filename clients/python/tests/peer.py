# ruff: noqa: N802  # methods have their names from the proto
"""A peer for the client's tests: a small server that speaks the protocol over real gRPC, and fails on request.

It keeps what it is given in memory, finds by shared words, and remembers request_ids. No part of LightMem is in it.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lightmem_client.pb import admin_service_pb2 as admin_pb
from lightmem_client.pb import (
    admin_service_pb2_grpc,
    memory_pb2,
    memory_service_pb2_grpc,
)
from lightmem_client.pb import memory_service_pb2 as pb

KEY = "lm_peer_secret"


@dataclass(frozen=True)
class Failure:
    """What one call ends with. `is_late`: only after it took effect, as when the answer is lost on the way."""

    code: grpc.StatusCode
    reason: str = ""
    retry_after_seconds: float | None = None
    field: str | None = None
    is_late: bool = False


@dataclass
class Peer(memory_service_pb2_grpc.MemoryServiceServicer, admin_service_pb2_grpc.AdminServiceServicer):
    """The server. Use as a context manager; `stop` and `start` keep the port and the contents."""

    memories: dict[str, list[memory_pb2.Memory]] = field(default_factory=dict)
    keys: list[admin_pb.ApiKey] = field(default_factory=list)
    failures: dict[str, deque[Failure]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    requests: dict[str, Any] = field(default_factory=dict)
    dead_jobs: dict[str, str] = field(default_factory=dict)
    backups: list[str] = field(default_factory=list)

    exports: dict[str, list[str]] = field(default_factory=dict)
    holds_writes: threading.Event | None = None
    holds_retrieves: threading.Event | None = None
    port: int = 0
    credentials: grpc.ServerCredentials | None = None

    def __post_init__(self) -> None:
        self.arrived = threading.Event()
        self.health = health.HealthServicer()
        self.written: dict[tuple[str, str], tuple[bytes, list[str]]] = {}
        self._server: grpc.Server | None = None
        self._lock = threading.Lock()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Peer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        server = grpc.server(ThreadPoolExecutor(16), options=(("grpc.so_reuseport", 1),))
        memory_service_pb2_grpc.add_MemoryServiceServicer_to_server(self, server)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(self, server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        address = f"127.0.0.1:{self.port}"
        if self.credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, self.credentials)
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None

    def set_ready(self, is_ready: bool) -> None:
        statuses = health_pb2.HealthCheckResponse
        self.health.set("", statuses.SERVING if is_ready else statuses.NOT_SERVING)

    def fail(self, method: str, *failures: Failure) -> None:
        self.failures.setdefault(method, deque()).extend(failures)

    def texts(self, user_id: str) -> list[str]:
        return [memory.text for memory in self.memories.get(user_id, [])]

    def _begin(self, method: str, context: grpc.ServicerContext, request: Any = None) -> Failure | None:
        """Counts the call, checks the key, and ends it when it is to fail. Returns a failure for its end."""
        self.calls[method] += 1
        self.requests[method] = request
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {KEY}":
            abort(context, Failure(grpc.StatusCode.UNAUTHENTICATED, "KEY_INVALID"))
        failure = self.failures[method].popleft() if self.failures.get(method) else None
        if failure is not None and not failure.is_late:
            abort(context, failure)
        return failure

    def Write(self, request_iterator: Iterator[pb.WriteRequest], context: Any) -> Iterator[pb.WriteResponse]:
        failure = self._begin("Write", context)
        for request in request_iterator:
            self.arrived.set()
            if self.holds_writes is not None:
                self.holds_writes.wait()
            yield self._write(request, context)
            if failure is not None:
                for late in request_iterator:  # taken in, and never answered
                    self._write(late, context)
                    abort(context, failure)

    def _write(self, request: pb.WriteRequest, context: Any) -> pb.WriteResponse:
        user_id, content = request.scope.user_id, request.SerializeToString(deterministic=True)
        for i, turn in enumerate(request.turns):
            if not turn.text.strip():
                abort(context, Failure(grpc.StatusCode.INVALID_ARGUMENT, "REQUIRED", field=f"turns[{i}].text"))
        with self._lock:
            known = self.written.get((user_id, request.request_id))
            if known is not None:
                if known[0] != content:
                    abort(context, Failure(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"))
                return pb.WriteResponse(request_id=request.request_id, memory_ids=known[1], is_replay=True)
            ids = [self._store(request.scope, turn).id for turn in request.turns]
            self.written[user_id, request.request_id] = content, ids
        return pb.WriteResponse(request_id=request.request_id, memory_ids=ids)

    def _store(self, scope: memory_pb2.Scope, turn: memory_pb2.Turn) -> memory_pb2.Memory:
        memory = memory_pb2.Memory(
            id=str(uuid.uuid4()),
            scope=scope,
            tier=memory_pb2.TIER_MTM,
            kind=memory_pb2.KIND_TURN,
            text=turn.text,
            speaker=turn.speaker,
            role=turn.role or memory_pb2.ROLE_USER,
            metadata=turn.metadata,
            confidence=1,
            version=1,
            state=memory_pb2.STATE_ACTIVE,
            is_pinned=turn.is_pinned,
        )
        memory.created_at.GetCurrentTime()
        memory.occurred_at.CopyFrom(turn.occurred_at if turn.HasField("occurred_at") else memory.created_at)
        self.memories.setdefault(scope.user_id, []).append(memory)
        return memory

    def Retrieve(self, request: pb.RetrieveRequest, context: Any) -> Iterator[pb.RetrieveResponse]:
        failure = self._begin("Retrieve", context, request)
        mine = self.memories.get(request.scope.user_id, [])
        if self.holds_retrieves is not None:
            self.arrived.set()
            self.holds_retrieves.wait(10)
        if not request.exclude_context:
            turns = [memory for memory in mine if memory.scope.session_id == request.scope.session_id]
            yield pb.RetrieveResponse(context=pb.RetrieveContext(turns=turns))
        if failure is not None:
            abort(context, failure)
        words = set(request.query.lower().split())
        hits = [
            pb.RetrievedMemory(memory=memory, score=score, relevance=min(1.0, score / 4), token_count=len(memory.text))
            for memory in mine
            if (score := len(words & set(memory.text.lower().split())))
        ]
        hits.sort(key=lambda hit: -hit.score)
        hits = hits[: request.budget.max_memories or 10]
        if request.include_coarse:
            yield pb.RetrieveResponse(coarse=pb.CoarseHits(hits=hits))
        packed = "\n".join(f"{hit.memory.speaker}: {hit.memory.text}" for hit in hits)
        yield pb.RetrieveResponse(
            memories=pb.RetrievedMemories(memories=hits, packed_context=packed, token_count=len(packed))
        )
        trace = pb.RetrievalTrace(
            plan=pb.RetrievalTrace.Plan(
                query_views=[request.query], budget=request.budget, selector_mode=request.selector_mode or 3
            ),
            matched_count=len(mine),
        )
        for i, name in enumerate(("embed", "coarse", "select")):
            trace.stages.add(name=name, item_count=len(hits)).elapsed.FromMilliseconds(i + 1)
        for i, hit in enumerate(hits):
            candidate = trace.candidates.add(
                memory_id=hit.memory.id, coarse_rank=i + 1, coarse_score=hit.score, logit=0.5, final_rank=i + 1
            )
            candidate.source_ranks.add(source="lexical_turn", rank=i + 1)
        trace.elapsed.FromMilliseconds(7)
        if not request.exclude_trace:
            yield pb.RetrieveResponse(trace=trace)

    def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        self._begin("Explain", context, request)
        memory = self._find(request.retrieve.scope.user_id, request.memory_id, context)
        response = pb.ExplainResponse(reached_stage="select", explanation=f"{memory.text!r} came 11th.", margin=0.25)
        response.trace.plan.need = pb.QUERY_NEED_EPISODE
        candidate = response.trace.candidates.add(memory_id=memory.id, relevance=0.5, drop_reason=1)  # type: ignore[arg-type]
        candidate.score_parts.add(name="session", value=0.75)
        return response

    def _find(self, user_id: str, memory_id: str, context: Any) -> memory_pb2.Memory:
        for memory in self.memories.get(user_id, []):
            if memory.id == memory_id:
                return memory
        abort(context, Failure(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"))
        raise AssertionError

    def GetMemory(self, request: pb.GetMemoryRequest, context: Any) -> pb.GetMemoryResponse:
        self._begin("GetMemory", context, request)
        return pb.GetMemoryResponse(memory=self._find(request.scope.user_id, request.memory_id, context))

    def ListMemories(self, request: pb.ListMemoriesRequest, context: Any) -> pb.ListMemoriesResponse:
        self._begin("ListMemories", context, request)
        mine = self.memories.get(request.scope.user_id, [])[::-1]
        start, size = int(request.page_token or 0), request.page_size or 100
        token = str(start + size) if start + size < len(mine) else ""
        return pb.ListMemoriesResponse(memories=mine[start : start + size], next_page_token=token)

    def UpdateMemory(self, request: pb.UpdateMemoryRequest, context: Any) -> pb.UpdateMemoryResponse:
        failure = self._begin("UpdateMemory", context, request)
        memory = self._find(request.scope.user_id, request.memory.id, context)
        if request.expected_version not in (0, memory.version):
            abort(context, Failure(grpc.StatusCode.ABORTED, "VERSION_MISMATCH"))
        for path in request.update_mask.paths:
            memory.ClearField(path)  # type: ignore[arg-type]
        patch = memory_pb2.Memory(metadata=request.memory.metadata, is_pinned=request.memory.is_pinned)
        if request.memory.HasField("expires_at"):
            patch.expires_at.CopyFrom(request.memory.expires_at)
        memory.MergeFrom(patch)
        memory.version += 1
        if failure is not None:
            abort(context, failure)
        return pb.UpdateMemoryResponse(memory=memory)

    def DeleteMemory(self, request: pb.DeleteMemoryRequest, context: Any) -> pb.DeleteMemoryResponse:
        failure = self._begin("DeleteMemory", context, request)
        memory = self._find(request.scope.user_id, request.memory_id, context)
        self.memories[request.scope.user_id].remove(memory)
        if failure is not None:
            abort(context, failure)
        return pb.DeleteMemoryResponse()

    def GetContext(self, request: pb.GetContextRequest, context: Any) -> pb.GetContextResponse:
        self._begin("GetContext", context, request)
        mine = self.memories.get(request.scope.user_id, [])
        turns = [memory for memory in mine if memory.scope.session_id == request.scope.session_id]
        return pb.GetContextResponse(turns=turns[-(request.max_turns or 24) :])

    def GetMemoryHistory(self, request: pb.GetMemoryHistoryRequest, context: Any) -> pb.GetMemoryHistoryResponse:
        self._begin("GetMemoryHistory", context, request)
        memory = self._find(request.scope.user_id, request.memory_id, context)
        response = pb.GetMemoryHistoryResponse()
        response.changes.add(memory=memory, cause="write", explanation="It was stored.").changed_at.FromSeconds(60)
        return response

    def Consolidate(self, request: admin_pb.ConsolidateRequest, context: Any) -> Iterator[admin_pb.ConsolidateResponse]:
        failure = self._begin("Consolidate", context, request)
        yield admin_pb.ConsolidateResponse(stage="queue")
        count = len(self.memories.get(request.user_id, []))
        for done in range(1, count + 1):
            message = admin_pb.ConsolidateResponse(
                run_id="r1", stage="abstract", done_count=done, total_count=count, kept_count=done
            )
            message.rejected.add(reason="question", count=2)
            message.remaining.FromSeconds(count - done)
            yield message
            if failure is not None:
                abort(context, failure)
        done_message = admin_pb.ConsolidateResponse(stage="done", run_id="r1" if count else "", kept_count=count)
        if count:
            done_message.rejected.add(reason="question", count=2)
        yield done_message

    def CancelConsolidation(
        self, request: admin_pb.CancelConsolidationRequest, context: Any
    ) -> admin_pb.CancelConsolidationResponse:
        self._begin("CancelConsolidation", context, request)
        is_known = request.user_id in self.memories
        return admin_pb.CancelConsolidationResponse(run_id="r1" if is_known else "", job_count=int(is_known))

    def UndoConsolidation(
        self, request: admin_pb.UndoConsolidationRequest, context: Any
    ) -> admin_pb.UndoConsolidationResponse:
        self._begin("UndoConsolidation", context, request)
        if request.run_id != "r1":
            abort(context, Failure(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"))
        return admin_pb.UndoConsolidationResponse(restored_count=2, removed_count=3)

    def EraseUser(self, request: admin_pb.EraseUserRequest, context: Any) -> admin_pb.EraseUserResponse:
        failure = self._begin("EraseUser", context, request)
        count = len(self.memories.pop(request.user_id, []))
        response = admin_pb.EraseUserResponse(
            receipt_id=str(uuid.uuid4()), memory_count=count, vector_count=count, job_count=int(count > 0)
        )
        response.erased_at.FromSeconds(60)
        if failure is not None:
            abort(context, failure)
        return response

    def Backup(self, request: admin_pb.BackupRequest, context: Any) -> Iterator[admin_pb.BackupResponse]:
        failure = self._begin("Backup", context, request)
        if request.name in self.backups:
            abort(context, Failure(grpc.StatusCode.FAILED_PRECONDITION, "BACKUP_EXISTS"))
        yield admin_pb.BackupResponse(stage="copy", done_pages=1, total_pages=2)
        if failure is not None:
            abort(context, failure)
        yield admin_pb.BackupResponse(stage="verify", done_pages=2, total_pages=2)
        self.backups.append(request.name)
        path = f"/data/backups/{request.name or 'now'}"
        yield admin_pb.BackupResponse(stage="done", done_pages=2, total_pages=2, path=path, size_bytes=8192)

    def ExportUser(self, request: admin_pb.ExportUserRequest, context: Any) -> Iterator[admin_pb.ExportUserResponse]:
        failure = self._begin("ExportUser", context, request)
        lines = self.exports.get(request.user_id, ['{"type":"header"}'])
        for number, line in enumerate(lines, start=1):
            yield admin_pb.ExportUserResponse(json_lines=[line], done_count=number, total_count=len(lines))
            if failure is not None:
                abort(context, failure)

    def ImportUser(
        self, request_iterator: Iterator[admin_pb.ImportUserRequest], context: Any
    ) -> admin_pb.ImportUserResponse:
        failure = self._begin("ImportUser", context)
        user_id, lines = "", []
        for request in request_iterator:
            user_id = user_id or request.user_id
            lines += request.json_lines
            if failure is not None:
                abort(context, failure)
        known = self.exports.setdefault(user_id, [])
        new = [line for line in lines if line not in known]
        known += new
        return admin_pb.ImportUserResponse(
            imported_count=len(new), skipped_count=len(lines) - len(new), reembedded_count=len(new) // 2
        )

    def GetStats(self, request: admin_pb.GetStatsRequest, context: Any) -> admin_pb.GetStatsResponse:
        self._begin("GetStats", context, request)
        count = sum(len(memories) for memories in self.memories.values())
        stats = admin_pb.GetStatsResponse(user_count=len(self.memories), server_version="0.0.0", store_size_bytes=4096)
        stats.counts.add(tier=memory_pb2.TIER_MTM, kind=memory_pb2.KIND_TURN, active_count=count)
        stats.models.add(role="embedder", name="words", identity="words/1")
        stats.uptime.FromSeconds(90)
        for user_id, error in self.dead_jobs.items():
            stats.dead_jobs.add(user_id=user_id, kind="consolidate", attempt_count=8, error=error)
        stats.dead_job_count = len(self.dead_jobs)
        return stats

    def CreateKey(self, request: admin_pb.CreateKeyRequest, context: Any) -> admin_pb.CreateKeyResponse:
        failure = self._begin("CreateKey", context, request)
        key = admin_pb.ApiKey(key_id=f"k{len(self.keys)}")
        key.MergeFrom(request.key)
        self.keys.append(key)
        if failure is not None:
            abort(context, failure)
        return admin_pb.CreateKeyResponse(key=key, secret=f"lm_{key.key_id}_secret")

    def ListKeys(self, request: admin_pb.ListKeysRequest, context: Any) -> admin_pb.ListKeysResponse:
        self._begin("ListKeys", context, request)
        return admin_pb.ListKeysResponse(keys=self.keys)

    def RotateKey(self, request: admin_pb.RotateKeyRequest, context: Any) -> admin_pb.RotateKeyResponse:
        self._begin("RotateKey", context, request)
        for old in self.keys:
            if old.key_id == request.key_id:
                key = admin_pb.ApiKey()
                key.MergeFrom(old)
                key.key_id = f"k{len(self.keys)}"
                self.keys.append(key)
                old.revoked_at.GetCurrentTime()
                return admin_pb.RotateKeyResponse(key=key, secret=f"lm_{key.key_id}_secret", replaced=old)
        abort(context, Failure(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"))
        raise AssertionError

    def RevokeKey(self, request: admin_pb.RevokeKeyRequest, context: Any) -> admin_pb.RevokeKeyResponse:
        self._begin("RevokeKey", context, request)
        for key in self.keys:
            if key.key_id == request.key_id:
                key.revoked_at.GetCurrentTime()
                return admin_pb.RevokeKeyResponse(key=key)
        abort(context, Failure(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"))
        raise AssertionError


def abort(context: Any, failure: Failure) -> None:
    """End a call as a LightMem server does, with google.rpc details."""
    context.set_trailing_metadata((("grpc-status-details-bin", details(failure)),))
    context.abort(failure.code, f"the peer says {failure.reason or failure.code.name}")


def details(failure: Failure) -> bytes:
    """The serialized google.rpc.Status."""
    messages: list[Message] = [error_details_pb2.ErrorInfo(reason=failure.reason, domain="lightmem")]
    if failure.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=failure.field, description="is empty")
        messages.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if failure.retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(failure.retry_after_seconds * 1000))
        messages.append(retry)
    status = status_pb2.Status(code=failure.code.value[0], message="")
    for message in messages:
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    return status.SerializeToString()
