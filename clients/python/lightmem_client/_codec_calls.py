"""Python to proto and back for requests and answers. Pure, as _codec.py."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime

from lightmem_client import _results as results
from lightmem_client._codec import (
    from_duration,
    from_timestamp,
    to_count,
    to_duration,
    to_enum,
    to_filter,
    to_memory,
    to_metadata,
    to_text,
    to_timestamp,
    to_turns,
)
from lightmem_client._lazy import LazySequence
from lightmem_client._types import Kind, Memory, Tier, Turn
from lightmem_client.errors import InternalError, InvalidArgumentError
from lightmem_client.pb import admin_service_pb2 as admin_pb
from lightmem_client.pb import memory_pb2
from lightmem_client.pb import memory_service_pb2 as pb

IMPORT_BYTES = 256 << 10
IMPORT_LINES = 1000
"""Of one message of an import, about: few messages, and none that is near the server's limit."""

BUDGET_COUNTS = ("max_memories", "max_candidates", "max_tokens")


def to_write_request(
    scope: memory_pb2.Scope, turns: str | Turn | Iterable[str | Turn], request_id: str | None
) -> pb.WriteRequest:
    """A write; with a fresh request_id where the caller has none, so that it can be retried."""
    return pb.WriteRequest(
        scope=scope, turns=to_turns(turns), request_id=to_text(request_id or uuid.uuid4().hex, "request_id")
    )


def to_write_result(response: pb.WriteResponse) -> results.WriteResult:
    """An acknowledgement."""
    return results.WriteResult(response.request_id, tuple(response.memory_ids), response.is_replay)


def to_retrieve_request(scope: memory_pb2.Scope, query: str, options: results.RetrieveOptions) -> pb.RetrieveRequest:
    """A retrieval.

    Raises:
        InvalidArgumentError: A value that cannot be sent.
        TypeError: An option that there isn't.
    """
    unknown = sorted(options.keys() - results.RetrieveOptions.__annotations__.keys())
    if unknown:
        known = ", ".join(results.RetrieveOptions.__annotations__)
        raise TypeError(f"no option of a retrieval: {', '.join(unknown)}; there are {known}")
    request = pb.RetrieveRequest(
        scope=scope,
        query=to_text(query, "query"),
        time_zone=to_text(options.get("time_zone", ""), "time_zone"),
        selector_mode=pb.SelectorMode.ValueType(options.get("selector_mode", 0)),
        min_relevance=options.get("min_relevance"),
        include_coarse=options.get("include_coarse", False),
        exclude_context=options.get("exclude_context", False),
        exclude_shared=options.get("exclude_shared", False),
        exclude_trace=options.get("exclude_trace", False),
        hypothetical_queries=to_count(options.get("hypothetical_queries", 0), "hypothetical_queries", least=0),
        tokenizer=options.get("tokenizer", ""),
    )
    for name in BUDGET_COUNTS:
        if name in options:
            setattr(request.budget, name, to_count(options[name], f"budget.{name}"))  # type: ignore[literal-required]
    if "deadline_seconds" in options:
        request.budget.deadline.CopyFrom(to_duration(options["deadline_seconds"], "budget.deadline"))
    if "filter" in options:
        request.filter.CopyFrom(to_filter(options["filter"]))
    if "asked_at" in options:
        request.asked_at.CopyFrom(to_timestamp(options["asked_at"], "asked_at"))
    return request


def to_part(response: pb.RetrieveResponse) -> results.RetrievePart | None:
    """A part of an answer; None for a kind that a newer server made."""
    match response.WhichOneof("part"):
        case "context":
            return results.ContextPart(tuple(to_memory(turn) for turn in response.context.turns))
        case "coarse":
            return results.CoarsePart(tuple(_to_retrieved(hit) for hit in response.coarse.hits))
        case "memories":
            selected = response.memories
            return results.MemoriesPart(
                tuple(_to_retrieved(memory) for memory in selected.memories),
                selected.packed_context,
                selected.token_count,
                tuple(_to_retrieved(memory) for memory in selected.shared_memories),
            )
        case "trace":
            return _to_trace(response.trace)
        case _:
            return None


def fold(parts: Iterable[results.RetrievePart], *, has_trace: bool = True) -> results.RetrieveResult:
    """The whole answer of a stream's parts; `has_trace`: a trace was asked for.

    Raises:
        InternalError: The stream ended without its memories or its trace.
    """
    context: tuple[Memory, ...] = ()
    coarse: tuple[results.RetrievedMemory, ...] = ()
    selected: results.MemoriesPart | None = None
    trace: results.RetrievalTrace | None = None
    for part in parts:
        match part:
            case results.ContextPart():
                context = part.turns
            case results.CoarsePart():
                coarse = part.hits
            case results.MemoriesPart():
                selected = part
            case results.RetrievalTrace():
                trace = part
    if selected is None or (trace is None and has_trace):
        raise InternalError("the answer ended too early", reason="INCOMPLETE_ANSWER")
    return results.RetrieveResult(
        context,
        coarse,
        selected.memories,
        selected.packed_context,
        selected.token_count,
        trace,
        selected.shared_memories,
    )


def _to_retrieved(value: pb.RetrievedMemory) -> results.RetrievedMemory:
    relevance = value.relevance if value.HasField("relevance") else None
    return results.RetrievedMemory(
        to_memory(value.memory), value.score, relevance, value.token_count, value.shared_by_at_least
    )


def _to_trace(value: pb.RetrievalTrace) -> results.RetrievalTrace:
    plan = value.plan
    budget = plan.budget
    return results.RetrievalTrace(
        plan=results.TracePlan(
            query_views=tuple(plan.query_views),
            window_from=from_timestamp(plan.window_from) if plan.HasField("window_from") else None,
            window_to=from_timestamp(plan.window_to) if plan.HasField("window_to") else None,
            window_text=plan.window_text,
            budget=results.Budget(
                budget.max_memories,
                budget.max_candidates,
                budget.max_tokens,
                from_duration(budget.deadline) if budget.HasField("deadline") else None,
            ),
            selector_mode=to_enum(results.SelectorMode, plan.selector_mode),
            need=to_enum(results.QueryNeed, plan.need),
            is_personal=plan.is_personal,
            is_list=plan.is_list,
            is_multi_hop=plan.is_multi_hop,
            is_broad=plan.is_broad,
            asks_when=plan.asks_when,
            is_window_filter=plan.is_window_filter,
            judged_query=plan.judged_query,
        ),
        stages=tuple(
            results.TraceStage(stage.name, from_duration(stage.elapsed), stage.item_count) for stage in value.stages
        ),
        candidates=LazySequence(value.candidates, _to_candidate),
        shared_candidates=LazySequence(value.shared_candidates, _to_candidate),
        elapsed_seconds=from_duration(value.elapsed),
        is_cut_by_deadline=value.is_cut_by_deadline,
        matched_count=value.matched_count,
        is_approximate=value.is_approximate,
        selector_stop=to_enum(results.SelectorStop, value.selector_stop),
        followed_memory_ids=tuple(value.followed_memory_ids),
    )


def to_explanation(value: pb.ExplainResponse) -> results.Explanation:
    """Why a memory is, or is not, among the results."""
    return results.Explanation(value.reached_stage, value.explanation, value.margin, _to_trace(value.trace))


def _to_candidate(value: pb.RetrievalTrace.Candidate) -> results.TraceCandidate:
    return results.TraceCandidate(
        memory_id=value.memory_id,
        coarse_rank=value.coarse_rank,
        coarse_score=value.coarse_score,
        source_ranks={item.source: item.rank for item in value.source_ranks},
        logit=value.logit if value.HasField("logit") else None,
        final_score=value.final_score,
        final_rank=value.final_rank,
        drop_reason=to_enum(results.DropReason, value.drop_reason),
        relevance=value.relevance if value.HasField("relevance") else None,
        score_parts={part.name: part.value for part in value.score_parts},
        duplicate_of=value.duplicate_of,
    )


def to_update_request(
    scope: memory_pb2.Scope, memory_id: str, changes: results.MemoryChanges, expected_version: int
) -> pb.UpdateMemoryRequest:
    """A change of the fields that are given.

    Raises:
        InvalidArgumentError: None is given, or a value that cannot be sent.
        TypeError: A change that there isn't.
    """
    if not changes:
        raise InvalidArgumentError(
            "nothing to change; give metadata, is_pinned or expires_at", reason="REQUIRED", field="update_mask"
        )
    version = to_count(expected_version, "expected_version", least=0, bits=64)
    unknown = sorted(changes.keys() - results.MemoryChanges.__annotations__.keys())
    if unknown:
        raise TypeError(
            f"no change: {', '.join(unknown)}; there are {', '.join(results.MemoryChanges.__annotations__)}"
        )
    request = pb.UpdateMemoryRequest(scope=scope, expected_version=version)
    request.memory.id = memory_id
    request.update_mask.paths.extend(sorted(changes))
    for key, value in to_metadata(changes.get("metadata", {}), "memory.metadata").items():
        request.memory.metadata[key].CopyFrom(value)
    request.memory.is_pinned = changes.get("is_pinned", False)
    expires_at = changes.get("expires_at")
    if expires_at is not None:
        request.memory.expires_at.CopyFrom(to_timestamp(expires_at, "memory.expires_at"))
    return request


def to_stats(value: admin_pb.GetStatsResponse) -> results.Stats:
    """Figures."""
    return results.Stats(
        user_count=value.user_count,
        counts=tuple(
            results.RecordCount(
                to_enum(Tier, item.tier), to_enum(Kind, item.kind), item.active_count, item.archived_count
            )
            for item in value.counts
        ),
        store_size_bytes=value.store_size_bytes,
        resident_partition_count=value.resident_partition_count,
        resident_size_bytes=value.resident_size_bytes,
        resident_limit_bytes=value.resident_limit_bytes,
        models=tuple(results.LoadedModel(item.role, item.name, item.identity) for item in value.models),
        server_version=value.server_version,
        uptime_seconds=from_duration(value.uptime),
        pending_job_count=value.pending_job_count,
        dead_job_count=value.dead_job_count,
        dead_jobs=tuple(
            results.DeadJob(job.user_id, job.kind, job.attempt_count, job.error, from_timestamp(job.set_aside_at))
            for job in value.dead_jobs
        ),
        shared_fact_count=value.shared_fact_count,
    )


def to_progress(value: admin_pb.ConsolidateResponse) -> results.ConsolidationProgress:
    """One moment of a run."""
    return results.ConsolidationProgress(
        run_id=value.run_id,
        stage=value.stage,
        done_count=value.done_count,
        total_count=value.total_count,
        kept_count=value.kept_count,
        rejected={item.reason: item.count for item in value.rejected},
        remaining_seconds=from_duration(value.remaining) if value.HasField("remaining") else None,
    )


def to_erasure(value: admin_pb.EraseUserResponse) -> results.Erasure:
    """A receipt."""
    return results.Erasure(
        receipt_id=value.receipt_id,
        erased_at=from_timestamp(value.erased_at),
        memory_count=value.memory_count,
        vector_count=value.vector_count,
        job_count=value.job_count,
        withdrawn_support_count=value.withdrawn_support_count,
    )


def to_export_part(value: admin_pb.ExportUserResponse) -> results.ExportPart:
    """Some lines."""
    return results.ExportPart(tuple(value.json_lines), value.done_count, value.total_count)


def to_import_requests(user_id: str, lines: Iterable[str]) -> Iterator[admin_pb.ImportUserRequest]:
    """The messages of an import: as many lines in each as come to some size; at least one message."""
    request, size, is_first = admin_pb.ImportUserRequest(user_id=user_id), 0, True
    for line in lines:
        request.json_lines.append(line.removesuffix("\n"))
        size += len(line)
        if size >= IMPORT_BYTES or len(request.json_lines) >= IMPORT_LINES:
            yield request
            request, size, is_first = admin_pb.ImportUserRequest(user_id=user_id), 0, False
    if request.json_lines or is_first:
        yield request


def to_import_result(value: admin_pb.ImportUserResponse) -> results.ImportResult:
    """What an import did."""
    return results.ImportResult(value.imported_count, value.skipped_count, value.reembedded_count)


def to_backup_progress(value: admin_pb.BackupResponse) -> results.BackupProgress:
    """One moment of a backup."""
    return results.BackupProgress(value.stage, value.done_pages, value.total_pages, value.path, value.size_bytes)


def to_history(value: pb.GetMemoryHistoryResponse) -> tuple[results.MemoryVersion, ...]:
    """The versions of a memory."""
    return tuple(
        results.MemoryVersion(
            to_memory(change.memory), from_timestamp(change.changed_at), change.cause, change.explanation
        )
        for change in value.changes
    )


def to_create_key_request(
    label: str, user_ids: Iterable[str], is_admin: bool, expires_at: datetime | None, namespace: str = ""
) -> admin_pb.CreateKeyRequest:
    """A key to make.

    Raises:
        InvalidArgumentError: An expiry without time zone.
    """
    key = admin_pb.ApiKey(label=label, user_ids=user_ids, is_admin=is_admin, namespace=namespace)
    if expires_at is not None:
        key.expires_at.CopyFrom(to_timestamp(expires_at, "key.expires_at"))
    return admin_pb.CreateKeyRequest(key=key)


def to_rotate_key_request(key_id: str, overlap_seconds: float) -> admin_pb.RotateKeyRequest:
    """A key to replace.

    Raises:
        InvalidArgumentError: An overlap that is no number, or negative.
    """
    request = admin_pb.RotateKeyRequest(key_id=key_id)
    if overlap_seconds:
        request.overlap.CopyFrom(to_duration(overlap_seconds, "overlap"))
    return request


def to_api_key(value: admin_pb.ApiKey) -> results.ApiKey:
    """A key, without its secret."""
    return results.ApiKey(
        key_id=value.key_id,
        namespace=value.namespace,
        label=value.label,
        user_ids=tuple(value.user_ids),
        is_admin=value.is_admin,
        created_at=from_timestamp(value.created_at) if value.HasField("created_at") else None,
        expires_at=from_timestamp(value.expires_at) if value.HasField("expires_at") else None,
        revoked_at=from_timestamp(value.revoked_at) if value.HasField("revoked_at") else None,
    )
