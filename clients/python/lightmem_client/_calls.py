"""Every unary call as data: what is sent, how the answer is read, and whether it may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from google.protobuf.message import Message

from lightmem_client import _results as results
from lightmem_client._codec import to_count, to_filter, to_memory
from lightmem_client._codec_calls import (
    to_api_key,
    to_create_key_request,
    to_erasure,
    to_explanation,
    to_history,
    to_rotate_key_request,
    to_stats,
    to_update_request,
)
from lightmem_client._filters import Expression, MemoryFilter
from lightmem_client._types import Memory
from lightmem_client.errors import LightMemError, NotFoundError, UnavailableError
from lightmem_client.pb import admin_service_pb2 as admin_pb
from lightmem_client.pb import memory_service_pb2 as pb
from lightmem_client.pb.memory_pb2 import Scope

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UnaryCall(Generic[T]):
    """One request with one answer.

    Attributes:
        service: Which stub has the method.
        name: The method.
        decode: From the proto answer to the result. Any: gRPC's stubs are looked up by name.
        is_repeatable: Whether sending it twice does no more than sending it once.
        is_removal: Whether NOT_FOUND after an attempt whose outcome is unknown means that it is done.
    """

    service: Literal["memory", "admin"]
    name: str
    request: Message
    decode: Callable[[Any], T]
    is_repeatable: bool = True
    is_removal: bool = False


class Attempts:
    """What happened in the attempts of one call so far."""

    def __init__(self, call: UnaryCall[Any]) -> None:
        self._call = call
        self._is_unclear = False

    def settles(self, error: LightMemError) -> bool:
        """Whether this error means that an earlier attempt has done what the call was for."""
        if self._call.is_removal and self._is_unclear and isinstance(error, NotFoundError):
            return True
        self._is_unclear |= isinstance(error, UnavailableError)
        return False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a listing; an empty token says that it was the last one."""

    items: tuple[T, ...]
    next_page_token: str


def get_memory(scope: Scope, memory_id: str) -> UnaryCall[Memory]:
    """One memory."""
    return UnaryCall(
        "memory",
        "GetMemory",
        pb.GetMemoryRequest(scope=scope, memory_id=memory_id),
        lambda response: to_memory(response.memory),
    )


def list_memories(
    scope: Scope, memory_filter: MemoryFilter | Expression | None, page_size: int, page_token: str
) -> UnaryCall[Page[Memory]]:
    """A page of memories."""
    return UnaryCall(
        "memory",
        "ListMemories",
        pb.ListMemoriesRequest(
            scope=scope,
            filter=None if memory_filter is None else to_filter(memory_filter),
            page_size=to_count(page_size, "page_size"),
            page_token=page_token,
        ),
        lambda response: Page(tuple(to_memory(memory) for memory in response.memories), response.next_page_token),
    )


def update_memory(
    scope: Scope, memory_id: str, changes: results.MemoryChanges, expected_version: int | None
) -> UnaryCall[Memory]:
    """A change. Repeated only with `expected_version`: without, a repetition could undo another's change in between."""
    return UnaryCall(
        "memory",
        "UpdateMemory",
        to_update_request(scope, memory_id, changes, expected_version or 0),
        lambda response: to_memory(response.memory),
        is_repeatable=bool(expected_version),
    )


def delete_memory(scope: Scope, memory_id: str) -> UnaryCall[None]:
    """A deletion. It may be repeated: NOT_FOUND after an attempt that broke off means that that attempt deleted it."""
    return UnaryCall(
        "memory",
        "DeleteMemory",
        pb.DeleteMemoryRequest(scope=scope, memory_id=memory_id),
        lambda response: None,
        is_removal=True,
    )


def get_history(scope: Scope, memory_id: str) -> UnaryCall[tuple[results.MemoryVersion, ...]]:
    """Every version of one memory."""
    return UnaryCall(
        "memory", "GetMemoryHistory", pb.GetMemoryHistoryRequest(scope=scope, memory_id=memory_id), to_history
    )


def explain(request: pb.RetrieveRequest, memory_id: str) -> UnaryCall[results.Explanation]:
    """Why a memory is, or is not, among the results of a retrieval."""
    return UnaryCall("memory", "Explain", pb.ExplainRequest(retrieve=request, memory_id=memory_id), to_explanation)


def get_context(scope: Scope, max_turns: int | None) -> UnaryCall[tuple[Memory, ...]]:
    """The running conversation."""
    return UnaryCall(
        "memory",
        "GetContext",
        pb.GetContextRequest(scope=scope, max_turns=to_count(max_turns or 0, "max_turns", least=0)),
        lambda response: tuple(to_memory(turn) for turn in response.turns),
    )


def get_stats(user_id: str | None) -> UnaryCall[results.Stats]:
    """Figures."""
    return UnaryCall("admin", "GetStats", admin_pb.GetStatsRequest(user_id=user_id or ""), to_stats)


def cancel_consolidation(user_id: str) -> UnaryCall[results.CancelledConsolidation]:
    """The end of a user's run and of what waits."""
    return UnaryCall(
        "admin",
        "CancelConsolidation",
        admin_pb.CancelConsolidationRequest(user_id=user_id),
        lambda response: results.CancelledConsolidation(response.run_id, response.job_count),
    )


def undo_consolidation(run_id: str) -> UnaryCall[results.UndoneConsolidation]:
    """The taking back of a run."""
    return UnaryCall(
        "admin",
        "UndoConsolidation",
        admin_pb.UndoConsolidationRequest(run_id=run_id),
        lambda response: results.UndoneConsolidation(response.restored_count, response.removed_count),
    )


def erase_user(user_id: str) -> UnaryCall[results.Erasure]:
    """The erasure of a user. A repetition gives a receipt with zero counts: erased all the same."""
    return UnaryCall(
        "admin",
        "EraseUser",
        admin_pb.EraseUserRequest(user_id=user_id),
        to_erasure,
        # The counts of the first would be lost; and who writes meanwhile would be erased once more.
        is_repeatable=False,
    )


def create_key(
    label: str, user_ids: Iterable[str], is_admin: bool, expires_at: datetime | None, namespace: str = ""
) -> UnaryCall[results.CreatedKey]:
    """A new key. Never repeated: that would make a second one."""
    return UnaryCall(
        "admin",
        "CreateKey",
        to_create_key_request(label, user_ids, is_admin, expires_at, namespace),
        lambda response: results.CreatedKey(to_api_key(response.key), response.secret),
        is_repeatable=False,
    )


def list_keys(namespace: str, page_token: str) -> UnaryCall[Page[results.ApiKey]]:
    """A page of keys."""
    return UnaryCall(
        "admin",
        "ListKeys",
        admin_pb.ListKeysRequest(page_token=page_token, namespace=namespace),
        lambda response: Page(tuple(to_api_key(key) for key in response.keys), response.next_page_token),
    )


def rotate_key(key_id: str, overlap_seconds: float) -> UnaryCall[results.CreatedKey]:
    """A new key in a key's place. Never repeated: that would make a second one."""
    return UnaryCall(
        "admin",
        "RotateKey",
        to_rotate_key_request(key_id, overlap_seconds),
        lambda response: results.CreatedKey(to_api_key(response.key), response.secret),
        is_repeatable=False,
    )


def revoke_key(key_id: str) -> UnaryCall[results.ApiKey]:
    """The end of a key."""
    return UnaryCall(
        "admin", "RevokeKey", admin_pb.RevokeKeyRequest(key_id=key_id), lambda response: to_api_key(response.key)
    )
