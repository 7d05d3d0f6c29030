"""Proto to domain and back, for Retrieve: see convert.py."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from lightmem_server.config import Settings
from lightmem_server.errors import InvalidInputError
from lightmem_server.pb import memory_service_pb2 as pb
from lightmem_server.pipeline.explain import Explanation
from lightmem_server.pipeline.retrieval import Budget, Candidate, RetrieveQuery, SelectorMode, Trace
from lightmem_server.service import convert
from lightmem_server.types import Partition

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

TracedCandidates: TypeAlias = "RepeatedCompositeFieldContainer[pb.RetrievalTrace.Candidate]"

MAX_QUERY_BYTES = 8192
DEFAULT_SELECTOR_MODE = SelectorMode.FAST
"""FULL reads twice as much for less than a point of R@10, and doesn't keep p50 under 83 ms on two cores."""

MAX_MEMORIES = 100
MAX_CANDIDATES = 200
MAX_TOKENS = 32_768
MIN_DEADLINE_SECONDS = 0.001
MAX_DEADLINE_SECONDS = 10.0
MAX_HYPOTHETICAL_QUERIES = 4


def to_query(
    request: pb.RetrieveRequest, partition: Partition, settings: Settings, *, now: int, arrived_at: float
) -> RetrieveQuery:
    """A RetrieveRequest, checked, with its defaults. Raises InvalidInputError."""
    record_filter = convert.to_filter(request.filter)
    if record_filter.include_archived:
        raise InvalidInputError(
            "filter.include_archived", "archived memories are not searched", reason="ARCHIVED_NOT_SEARCHED"
        )
    if request.hypothetical_queries > MAX_HYPOTHETICAL_QUERIES:
        raise InvalidInputError(
            "hypothetical_queries", f"is more than {MAX_HYPOTHETICAL_QUERIES}", reason="OUT_OF_RANGE"
        )
    if not (math.isfinite(request.min_relevance) and 0 <= request.min_relevance <= 1):
        raise InvalidInputError("min_relevance", "is not between 0 and 1", reason="OUT_OF_RANGE")
    try:
        mode = SelectorMode(request.selector_mode) if request.selector_mode else DEFAULT_SELECTOR_MODE
    except ValueError:
        raise InvalidInputError(
            "selector_mode", f"{request.selector_mode} is not a SelectorMode", reason="UNKNOWN_ENUM_VALUE"
        ) from None
    return RetrieveQuery(
        partition=partition,
        query=convert.to_text(request.query, "query", MAX_QUERY_BYTES),
        budget=_to_budget(request.budget, settings),
        asked_at=convert.to_micros(request.asked_at, "asked_at") if request.HasField("asked_at") else now,
        arrived_at=arrived_at,
        session_id=convert.to_name(request.scope.session_id, "scope.session_id"),
        filter=record_filter,
        zone=convert.to_zone(request.time_zone, "time_zone"),
        selector_mode=mode,
        min_relevance=request.min_relevance,
        include_coarse=request.include_coarse,
        exclude_context=request.exclude_context,
        exclude_shared=request.exclude_shared,
        exclude_trace=request.exclude_trace,
        tokenizer=convert.to_name(request.tokenizer, "tokenizer"),
        hypothetical_queries=request.hypothetical_queries,
    )


def _to_budget(budget: pb.RetrievalBudget, settings: Settings) -> Budget:
    for name, most in (("max_memories", MAX_MEMORIES), ("max_candidates", MAX_CANDIDATES), ("max_tokens", MAX_TOKENS)):
        if getattr(budget, name) > most:
            raise InvalidInputError(f"budget.{name}", f"is more than {most}", reason="OUT_OF_RANGE")
    deadline = settings.default_deadline_ms / 1000
    if budget.HasField("deadline"):
        deadline = convert.to_seconds(budget.deadline, "budget.deadline")
        if not MIN_DEADLINE_SECONDS <= deadline <= MAX_DEADLINE_SECONDS:
            raise InvalidInputError("budget.deadline", "is not between 1 ms and 10 s", reason="OUT_OF_RANGE")
    max_memories = budget.max_memories or settings.default_max_memories
    if budget.max_candidates and budget.max_candidates < max_memories:
        raise InvalidInputError("budget.max_candidates", "is less than max_memories", reason="OUT_OF_RANGE")
    return Budget(
        max_memories=max_memories,
        max_candidates=budget.max_candidates or max(settings.default_max_candidates, max_memories),
        max_tokens=budget.max_tokens or settings.default_max_tokens,
        deadline_seconds=deadline,
    )


def from_candidate(
    candidate: Candidate, user_id: str, *, is_coarse: bool = False, min_users: int = 0
) -> pb.RetrievedMemory:
    """The proto of a candidate that is returned; `min_users`: how many users at least say what is shared."""
    assert candidate.memory is not None, "dropped candidates are not returned"
    return pb.RetrievedMemory(
        memory=convert.from_memory(candidate.memory, user_id),
        score=candidate.coarse_score if is_coarse else candidate.score,
        relevance=None if is_coarse else candidate.relevance,
        token_count=candidate.token_count,
        shared_by_at_least=min_users,
    )


def from_trace(trace: Trace) -> pb.RetrievalTrace:
    """The proto of a trace."""
    query, window = trace.query, trace.plan.window
    plan = pb.RetrievalTrace.Plan(
        query_views=[view.text for view in trace.plan.views],
        window_text="" if window is None else window.text,
        budget=pb.RetrievalBudget(
            max_memories=query.budget.max_memories,
            max_candidates=query.budget.max_candidates,
            max_tokens=query.budget.max_tokens,
            deadline=convert.from_seconds(query.budget.deadline_seconds),
        ),
        selector_mode=pb.SelectorMode.ValueType(query.selector_mode),
        need=pb.QueryNeed.ValueType(trace.plan.need),
        is_personal=trace.plan.is_personal,
        is_list=trace.plan.is_list,
        is_multi_hop=trace.plan.is_multi_hop,
        is_broad=trace.plan.is_broad,
        asks_when=trace.plan.asks_when,
        is_window_filter=trace.is_window_filter,
        judged_query=trace.plan.judged,
    )
    if window is not None:
        plan.window_from.CopyFrom(convert.from_micros(window.start))
        plan.window_to.CopyFrom(convert.from_micros(window.end))
    message = pb.RetrievalTrace(
        plan=plan,
        stages=[
            pb.RetrievalTrace.Stage(
                name=stage.name, elapsed=convert.from_seconds(stage.seconds), item_count=stage.item_count
            )
            for stage in trace.stages
        ],
        elapsed=convert.from_seconds(trace.elapsed_seconds),
        is_cut_by_deadline=trace.is_cut_by_deadline,
        matched_count=trace.matched_count,
        is_approximate=trace.is_approximate,
        selector_stop=pb.SelectorStop.ValueType(trace.selector_stop),
        followed_memory_ids=[str(id_) for id_ in trace.followed],
    )
    for final_rank, candidate in enumerate(trace.candidates, start=1):
        _add_traced(message.candidates, candidate, final_rank)
    for final_rank, candidate in enumerate(trace.shared, start=1):
        _add_traced(message.shared_candidates, candidate, final_rank)
    return message


def from_explanation(explanation: Explanation) -> pb.ExplainResponse:
    """The proto of an explanation."""
    return pb.ExplainResponse(
        reached_stage=explanation.reached_stage,
        explanation=explanation.text,
        margin=explanation.margin,
        trace=from_trace(explanation.trace),
    )


def _add_traced(candidates: TracedCandidates, candidate: Candidate, final_rank: int) -> None:
    """Add a candidate to a trace: in place, field by field, which takes a third of the time of messages that are made and then
    copied. An answer has hundreds of these."""
    message = candidates.add(
        memory_id=str(candidate.memory_id),
        coarse_rank=candidate.coarse_rank,
        coarse_score=candidate.coarse_score,
        logit=candidate.logit,
        final_score=candidate.score,
        final_rank=final_rank,
        drop_reason=pb.DropReason.ValueType(candidate.drop_reason or 0),
        relevance=candidate.relevance,
        duplicate_of="" if candidate.duplicate_of is None else str(candidate.duplicate_of),
    )
    for source, rank in candidate.source_ranks.items():
        place = message.source_ranks.add()
        place.source, place.rank = source, rank
    for name, value in candidate.parts.items():
        if value:
            part = message.score_parts.add()
            part.name, part.value = name, value
