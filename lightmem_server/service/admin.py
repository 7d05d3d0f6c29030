"""AdminService: what operators call."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable

from lightmem_server.errors import (
    InvalidInputError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from lightmem_server.pb import admin_service_pb2 as pb
from lightmem_server.pb import admin_service_pb2_grpc, memory_pb2
from lightmem_server.pipeline.consolidation.progress import Ending, Progress
from lightmem_server.service import convert
from lightmem_server.service.auth import caller
from lightmem_server.service.backend import Backend
from lightmem_server.service.backup import back_up
from lightmem_server.service.interceptors import Context as RpcContext
from lightmem_server.store.protocol import DeadJob, KeyRecord
from lightmem_server.types import Partition

MAX_KEY_USERS = 64
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
SHOWN_DEAD_JOBS = 20
MAX_LINES = 4096


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Checks the admin right, calls, converts back."""

    def __init__(self, backend: Callable[[], Backend]) -> None:
        """`backend` is called per RPC, after the interceptor has seen that the server is ready."""
        self._backend = backend
        self._started = time.monotonic()

    async def GetStats(self, request: pb.GetStatsRequest, context: RpcContext) -> pb.GetStatsResponse:  # noqa: N802
        """Figures; see the proto."""
        namespace = _require_admin()
        user_id = convert.to_name(request.user_id, "user_id")
        if user_id or caller.get().user_ids:
            caller.get().partition(user_id, field="user_id")
        stats = await self._backend().store.stats(namespace, user_id or None)
        dead_jobs = await self._backend().store.list_dead_jobs(namespace, user_id or None, limit=SHOWN_DEAD_JOBS)
        response = pb.GetStatsResponse(
            user_count=stats.user_count,
            counts=[
                pb.GetStatsResponse.Count(
                    tier=memory_pb2.Tier.ValueType(tier),
                    kind=memory_pb2.Kind.ValueType(kind),
                    active_count=active,
                    archived_count=archived,
                )
                for (tier, kind), (active, archived) in sorted(stats.counts.items())
            ],
            models=[
                pb.GetStatsResponse.Model(role=model.role, name=model.name, identity=model.identity)
                for model in self._backend().models
            ],
            server_version=self._backend().server_version,
            uptime=convert.from_seconds(time.monotonic() - self._started),
            pending_job_count=stats.pending_job_count,
            dead_job_count=stats.dead_job_count,
            shared_fact_count=stats.shared_fact_count,
            dead_jobs=[_from_dead_job(job) for job in dead_jobs],
        )
        if caller.get().is_operator:  # to others they would tell of namespaces that aren't theirs
            engine = self._backend().engine.stats()
            response.store_size_bytes = stats.size_bytes
            response.resident_partition_count = engine.partitions
            response.resident_size_bytes = engine.size_bytes
            response.resident_limit_bytes = engine.budget_bytes
        return response

    async def CreateKey(self, request: pb.CreateKeyRequest, context: RpcContext) -> pb.CreateKeyResponse:  # noqa: N802
        """Make a key; see the proto."""
        _require_admin()
        if len(request.key.user_ids) > MAX_KEY_USERS:
            raise InvalidInputError("key.user_ids", f"has more than {MAX_KEY_USERS} users", reason="TOO_MANY")
        expires_at = None
        if request.key.HasField("expires_at"):
            expires_at = convert.to_micros(request.key.expires_at, "key.expires_at")
        made = await self._backend().keys.create(
            caller.get(),
            namespace=convert.to_name(request.key.namespace, "key.namespace"),
            label=convert.to_name(request.key.label, "key.label"),
            user_ids=[
                convert.to_name(user_id, f"key.user_ids[{i}]", is_required=True)
                for i, user_id in enumerate(request.key.user_ids)
            ],
            is_admin=request.key.is_admin,
            expires_at=expires_at,
        )
        return pb.CreateKeyResponse(key=_from_key(made.record), secret=made.secret)

    async def ListKeys(self, request: pb.ListKeysRequest, context: RpcContext) -> pb.ListKeysResponse:  # noqa: N802
        """A page of keys; see the proto."""
        _require_admin()
        if request.page_size > MAX_PAGE_SIZE:
            raise InvalidInputError("page_size", f"is more than {MAX_PAGE_SIZE}", reason="OUT_OF_RANGE")
        page, has_more = await self._backend().keys.list_page(
            caller.get(),
            namespace=convert.to_name(request.namespace, "namespace"),
            limit=request.page_size or DEFAULT_PAGE_SIZE,
            after_key_id=convert.to_name(request.page_token, "page_token"),
        )
        return pb.ListKeysResponse(
            keys=[_from_key(key) for key in page], next_page_token=page[-1].key_id if has_more else ""
        )

    async def RotateKey(self, request: pb.RotateKeyRequest, context: RpcContext) -> pb.RotateKeyResponse:  # noqa: N802
        """Put a new key in a key's place; see the proto."""
        _require_admin()
        made = await self._backend().keys.rotate(
            caller.get(),
            convert.to_name(request.key_id, "key_id", is_required=True),
            convert.to_seconds(request.overlap, "overlap"),
        )
        assert made.replaced is not None, "a rotation replaces"
        return pb.RotateKeyResponse(key=_from_key(made.record), secret=made.secret, replaced=_from_key(made.replaced))

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: RpcContext) -> pb.RevokeKeyResponse:  # noqa: N802
        """Make a key useless; see the proto."""
        _require_admin()
        key_id = convert.to_name(request.key_id, "key_id", is_required=True)
        return pb.RevokeKeyResponse(key=_from_key(await self._backend().keys.revoke(caller.get(), key_id)))

    async def Consolidate(  # noqa: N802
        self, request: pb.ConsolidateRequest, context: RpcContext
    ) -> AsyncIterator[pb.ConsolidateResponse]:
        """Consolidate a user now, or follow the run at work; see the proto."""
        partition = _partition(request.user_id)
        async with contextlib.aclosing(self._backend().consolidating.consolidate(partition)) as posts:
            async for progress in posts:
                if progress.ending is Ending.FAILED:
                    raise UnavailableError(
                        f"the run failed and is tried again later: {progress.error}", reason="RUN_FAILED"
                    )
                if progress.ending is Ending.CANCELLED:
                    raise PreconditionError("the run was cancelled", reason="RUN_CANCELLED")
                yield _from_progress(progress)

    async def CancelConsolidation(  # noqa: N802
        self, request: pb.CancelConsolidationRequest, context: RpcContext
    ) -> pb.CancelConsolidationResponse:
        """End a user's consolidation; see the proto."""
        cancelled = await self._backend().consolidating.cancel(_partition(request.user_id))
        return pb.CancelConsolidationResponse(
            run_id="" if cancelled.run_id is None else str(cancelled.run_id), job_count=cancelled.job_count
        )

    async def UndoConsolidation(  # noqa: N802
        self, request: pb.UndoConsolidationRequest, context: RpcContext
    ) -> pb.UndoConsolidationResponse:
        """Take a run back; see the proto."""
        namespace = _require_admin()
        try:
            run_id = uuid.UUID(convert.to_name(request.run_id, "run_id", is_required=True))
        except ValueError:
            raise NotFoundError("no such run") from None
        run = await self._backend().store.find_run(run_id)
        if run is None or not caller.get().may_act_for(run.partition):
            raise NotFoundError("no such run")
        undone = await self._backend().consolidating.undo(namespace, run_id)
        return pb.UndoConsolidationResponse(restored_count=undone.restored_count, removed_count=undone.removed_count)

    async def EraseUser(self, request: pb.EraseUserRequest, context: RpcContext) -> pb.EraseUserResponse:  # noqa: N802
        """Remove everything of a user; see the proto."""
        erased = await self._backend().erasing.erase(_partition(request.user_id))
        return pb.EraseUserResponse(
            receipt_id=str(erased.receipt_id),
            erased_at=convert.from_micros(erased.erased_at),
            memory_count=erased.memory_count,
            vector_count=erased.vector_count,
            job_count=erased.job_count,
            withdrawn_support_count=erased.withdrawn_support_count,
        )

    async def ExportUser(  # noqa: N802
        self, request: pb.ExportUserRequest, context: RpcContext
    ) -> AsyncIterator[pb.ExportUserResponse]:
        """Everything of a user, as lines; see the proto."""
        partition = _partition(request.user_id)
        async with contextlib.aclosing(self._backend().exporting.export(partition)) as parts:
            async for part in parts:
                yield pb.ExportUserResponse(json_lines=part.lines, done_count=part.done, total_count=part.total)

    async def ImportUser(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ImportUserRequest], context: RpcContext
    ) -> pb.ImportUserResponse:
        """Take an export in; see the proto."""
        first = await anext(request_iterator, None)
        partition = _partition("" if first is None else first.user_id)
        imported = await self._backend().importing.import_(partition, _read_lines(first, request_iterator))
        return pb.ImportUserResponse(
            imported_count=imported.imported,
            skipped_count=imported.skipped,
            reembedded_count=imported.reembedded,
        )

    def Backup(self, request: pb.BackupRequest, context: RpcContext) -> AsyncIterator[pb.BackupResponse]:  # noqa: N802
        """Copy the whole store; see the proto."""
        return back_up(self._backend(), request)


def _require_admin() -> str:
    """The namespace of a caller with admin rights."""
    caller.get().require_admin()
    return caller.get().namespace


def _partition(user_id: str) -> Partition:
    """The partition of a user, for a caller with admin rights who may act for that user."""
    caller.get().require_admin()
    return caller.get().partition(convert.to_name(user_id, "user_id", is_required=True), field="user_id")


async def _read_lines(
    first: pb.ImportUserRequest | None, rest: AsyncIterator[pb.ImportUserRequest]
) -> AsyncIterator[str]:
    """The lines of an import, in order. What is not read yet waits in the client, by gRPC's flow control."""
    request = first
    while request is not None:
        if len(request.json_lines) > MAX_LINES:
            raise InvalidInputError("json_lines", f"has more than {MAX_LINES} lines", reason="TOO_MANY")
        for line in request.json_lines:
            yield line
        request = await anext(rest, None)


def _from_progress(progress: Progress) -> pb.ConsolidateResponse:
    message = pb.ConsolidateResponse(
        run_id="" if progress.run_id is None else str(progress.run_id),
        stage=progress.stage,
        done_count=progress.done,
        total_count=progress.total,
        kept_count=progress.kept,
        rejected=[
            pb.ConsolidateResponse.RejectCount(reason=reason, count=count)
            for reason, count in sorted(progress.rejected.items())
        ],
    )
    if progress.remaining_seconds is not None:
        message.remaining.CopyFrom(convert.from_seconds(progress.remaining_seconds))
    return message


def _from_dead_job(job: DeadJob) -> pb.GetStatsResponse.DeadJob:
    return pb.GetStatsResponse.DeadJob(
        user_id=job.partition.user_id,
        kind=job.kind,
        attempt_count=job.attempts,
        error=job.error,
        set_aside_at=convert.from_micros(job.dead_at),
    )


def _from_key(key: KeyRecord) -> pb.ApiKey:
    message = pb.ApiKey(
        key_id=key.key_id,
        namespace=key.namespace,
        label=key.label,
        user_ids=key.user_ids,
        is_admin=key.is_admin,
        created_at=convert.from_micros(key.created_at),
    )
    if key.expires_at is not None:
        message.expires_at.CopyFrom(convert.from_micros(key.expires_at))
    if key.revoked_at is not None:
        message.revoked_at.CopyFrom(convert.from_micros(key.revoked_at))
    return message
