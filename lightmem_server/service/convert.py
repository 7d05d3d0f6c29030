"""Proto to domain types and back: everything that a client sends is checked here, and nowhere else.

Each function from proto raises InvalidInputError, naming the field by its path in the request.
"""

from __future__ import annotations

import math
import uuid
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from lightmem_server.config import Settings
from lightmem_server.errors import InvalidInputError, NotFoundError
from lightmem_server.pb import memory_pb2 as pb
from lightmem_server.types import (
    NO_METADATA,
    AllOf,
    AnyOf,
    Condition,
    Kind,
    Memory,
    MemoryFilter,
    MetadataExpression,
    Not,
    Operator,
    Role,
    Scalar,
    State,
    Tier,
    Turn,
)

MAX_NAME_BYTES = 256
MAX_METADATA_KEYS = 32
MAX_METADATA_KEY_BYTES = 64
MAX_METADATA_STRING_BYTES = 1024
MAX_FILTER_ITEMS = 64
MAX_FILTER_DEPTH = 8

MICROS = 1_000_000
MIN_SECONDS = -62_135_596_800  # 0001-01-01T00:00:00Z
MAX_SECONDS = 253_402_300_799  # 9999-12-31T23:59:59Z

E = TypeVar("E", Tier, Kind)


def to_name(value: str, field: str, *, is_required: bool = False) -> str:
    """An id or name: at most 256 bytes, no control characters."""
    if is_required and not value:
        raise InvalidInputError(field, "is required", reason="REQUIRED")
    if len(value.encode()) > MAX_NAME_BYTES:
        raise InvalidInputError(field, f"is longer than {MAX_NAME_BYTES} bytes", reason="TOO_LONG")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise InvalidInputError(field, "has a control character", reason="CONTROL_CHARACTER")
    return value


def to_text(value: str, field: str, max_bytes: int) -> str:
    """Text: not blank, no NUL, at most `max_bytes`."""
    if not value.strip():
        raise InvalidInputError(field, "is empty", reason="REQUIRED")
    if len(value) > max_bytes or len(value.encode()) > max_bytes:
        raise InvalidInputError(field, f"is longer than {max_bytes} bytes", reason="TOO_LONG")
    if "\0" in value:
        raise InvalidInputError(field, "has a NUL character", reason="CONTROL_CHARACTER")
    return value


def to_memory_id(value: str, field: str = "memory_id") -> uuid.UUID:
    """An id. One that no server can have made gives what an unknown one gives."""
    if not value:
        raise InvalidInputError(field, "is required", reason="REQUIRED")
    try:
        return uuid.UUID(value)
    except ValueError:
        raise NotFoundError("no such memory") from None


def to_micros(value: Timestamp, field: str) -> int:
    """Microseconds since the epoch."""
    if not (MIN_SECONDS <= value.seconds <= MAX_SECONDS and 0 <= value.nanos < 1_000_000_000):
        raise InvalidInputError(field, "is not a time between the years 1 and 9999", reason="OUT_OF_RANGE")
    return value.seconds * MICROS + value.nanos // 1000


def from_micros(value: int) -> Timestamp:
    """A Timestamp of microseconds since the epoch."""
    seconds, micros = divmod(value, MICROS)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def to_seconds(value: Duration, field: str) -> float:
    """Seconds of a Duration."""
    if value.seconds * value.nanos < 0 or abs(value.nanos) >= 1_000_000_000:
        raise InvalidInputError(field, "is not a valid duration", reason="OUT_OF_RANGE")
    return value.seconds + value.nanos / 1e9


def from_seconds(value: float) -> Duration:
    """A Duration of seconds, not negative, to the microsecond."""
    seconds, micros = divmod(round(max(0.0, value) * MICROS), MICROS)
    return Duration(seconds=seconds, nanos=micros * 1000)


def to_zone(name: str, field: str) -> tzinfo:
    """A time zone by its IANA name."""
    if not name:
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInputError(field, "is not an IANA time zone", reason="UNKNOWN_TIME_ZONE") from None


def to_turn(turn: pb.Turn, field: str, limits: Settings) -> Turn:
    """A turn, checked, with its defaults."""
    return Turn(
        text=to_text(turn.text, f"{field}.text", limits.max_text_bytes),
        occurred_at=to_micros(turn.occurred_at, f"{field}.occurred_at") if turn.HasField("occurred_at") else None,
        speaker=to_name(turn.speaker, f"{field}.speaker"),
        role=_to_role(turn.role, f"{field}.role"),
        metadata=to_metadata(turn.metadata, f"{field}.metadata", limits.max_metadata_bytes),
        is_pinned=turn.is_pinned,
        expires_at=to_micros(turn.expires_at, f"{field}.expires_at") if turn.HasField("expires_at") else None,
    )


def _to_role(value: int, field: str) -> Role:
    try:
        return Role(value) or Role.USER
    except ValueError:
        raise InvalidInputError(field, f"{value} is not a Role", reason="UNKNOWN_ENUM_VALUE") from None


def to_metadata(values: Mapping[str, pb.MetadataValue], field: str, max_bytes: int) -> Mapping[str, Scalar]:
    """Metadata: keys of 1 to 64 bytes, scalar values."""
    if not values:
        return NO_METADATA
    if len(values) > MAX_METADATA_KEYS:
        raise InvalidInputError(field, f"has more than {MAX_METADATA_KEYS} keys", reason="TOO_MANY")
    metadata = {}
    size = 0
    for key, value in values.items():
        _check_metadata_key(key, field)
        metadata[key] = to_scalar(value, f"{field}[{key}]")
        size += len(key.encode()) + value.ByteSize()
    if size > max_bytes:
        raise InvalidInputError(field, f"is larger than {max_bytes} bytes", reason="TOO_LONG")
    return metadata


def _check_metadata_key(key: str, field: str) -> None:
    if not 1 <= len(key.encode()) <= MAX_METADATA_KEY_BYTES:
        raise InvalidInputError(field, f"has a key that is not 1 to {MAX_METADATA_KEY_BYTES} bytes", reason="TOO_LONG")
    to_name(key, field)


def to_scalar(value: pb.MetadataValue, field: str) -> Scalar:
    """A metadata value."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        if len(value.string_value.encode()) > MAX_METADATA_STRING_BYTES:
            raise InvalidInputError(field, f"is longer than {MAX_METADATA_STRING_BYTES} bytes", reason="TOO_LONG")
        if "\0" in value.string_value:
            raise InvalidInputError(field, "has a NUL character", reason="CONTROL_CHARACTER")
        return value.string_value
    if kind == "int_value":
        return value.int_value
    if kind == "double_value":
        if not math.isfinite(value.double_value):
            raise InvalidInputError(field, "is not finite", reason="OUT_OF_RANGE")
        return value.double_value
    if kind == "bool_value":
        return value.bool_value
    raise InvalidInputError(field, "has no value", reason="REQUIRED")


def from_scalar(value: Scalar) -> pb.MetadataValue:
    """The proto of a metadata value; bool before int, which Python takes it for."""
    if isinstance(value, bool):
        return pb.MetadataValue(bool_value=value)
    if isinstance(value, int):
        return pb.MetadataValue(int_value=value)
    if isinstance(value, float):
        return pb.MetadataValue(double_value=value)
    return pb.MetadataValue(string_value=value)


def to_filter(value: pb.MemoryFilter, field: str = "filter") -> MemoryFilter:
    """A filter, checked."""
    tiers = frozenset(_to_enum(Tier, number, f"{field}.tiers") for number in value.tiers)
    if Tier.STM in tiers:
        raise InvalidInputError(f"{field}.tiers", "STM is the context and is not searched", reason="STM_NOT_SEARCHED")
    for name in ("session_ids", "agent_ids", "tiers", "kinds"):
        if len(getattr(value, name)) > MAX_FILTER_ITEMS:
            raise InvalidInputError(f"{field}.{name}", f"has more than {MAX_FILTER_ITEMS} items", reason="TOO_MANY")
    times = {
        name: to_micros(getattr(value, name), f"{field}.{name}") if value.HasField(name) else None
        for name in ("occurred_from", "occurred_to", "as_of")
    }
    return MemoryFilter(
        tiers=tiers,
        kinds=frozenset(_to_enum(Kind, number, f"{field}.kinds") for number in value.kinds),
        session_ids=frozenset(to_name(item, f"{field}.session_ids") for item in value.session_ids),
        agent_ids=frozenset(to_name(item, f"{field}.agent_ids") for item in value.agent_ids),
        metadata=_to_expression(value.metadata, f"{field}.metadata", _Count()) if value.HasField("metadata") else None,
        include_archived=value.include_archived,
        **times,
    )


def _to_enum(kind: type[E], number: int, field: str) -> E:
    try:
        return kind(number)
    except ValueError:
        raise InvalidInputError(field, f"{number} is not a {kind.__name__}", reason="UNKNOWN_ENUM_VALUE") from None


class _Count:
    """Conditions seen so far in one filter."""

    conditions = 0


def _to_expression(value: pb.MetadataFilter, field: str, count: _Count, depth: int = 1) -> MetadataExpression:
    if depth > MAX_FILTER_DEPTH:
        raise InvalidInputError(field, f"is nested deeper than {MAX_FILTER_DEPTH} levels", reason="TOO_DEEP")
    kind = value.WhichOneof("expression")
    if kind == "condition":
        count.conditions += 1
        if count.conditions > MAX_FILTER_ITEMS:
            raise InvalidInputError(field, f"has more than {MAX_FILTER_ITEMS} conditions", reason="TOO_MANY")
        return _to_condition(value.condition, f"{field}.condition")
    if kind == "not":
        return Not(_to_expression(getattr(value, "not"), f"{field}.not", count, depth + 1))
    if kind is None:
        raise InvalidInputError(field, "has no expression", reason="REQUIRED")
    filters = getattr(value, kind).filters
    if not 1 <= len(filters) <= MAX_FILTER_ITEMS:
        raise InvalidInputError(f"{field}.{kind}", f"must have 1 to {MAX_FILTER_ITEMS} filters", reason="TOO_MANY")
    parts = tuple(_to_expression(item, f"{field}.{kind}[{i}]", count, depth + 1) for i, item in enumerate(filters))
    return AllOf(parts) if kind == "all_of" else AnyOf(parts)


def _to_condition(value: pb.MetadataCondition, field: str) -> Condition:
    _check_metadata_key(value.key, f"{field}.key")
    try:
        operator = Operator(value.operator)
    except ValueError:
        raise InvalidInputError(
            f"{field}.operator", f"{value.operator} is not an Operator", reason="UNKNOWN_ENUM_VALUE"
        ) from None
    most = MAX_FILTER_ITEMS if operator is Operator.IN else 1
    if not 1 <= len(value.values) <= most:
        raise InvalidInputError(f"{field}.values", f"must have 1 to {most} values", reason="TOO_MANY")
    values = tuple(to_scalar(item, f"{field}.values") for item in value.values)
    if operator in (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE) and isinstance(values[0], bool):
        raise InvalidInputError(f"{field}.values", "a bool has no order", reason="WRONG_TYPE")
    if operator is Operator.CONTAINS and not isinstance(values[0], str):
        raise InvalidInputError(f"{field}.values", "OPERATOR_CONTAINS takes text", reason="WRONG_TYPE")
    return Condition(value.key, operator, values)


def from_memory(memory: Memory, user_id: str, *, tier: Tier | None = None) -> pb.Memory:
    """The proto of a record; `tier` instead of its own, for the running conversation."""
    message = pb.Memory(
        id=str(memory.id),
        scope=pb.Scope(user_id=user_id, agent_id=memory.agent_id, session_id=memory.session_id),
        tier=pb.Tier.ValueType(tier or memory.tier),
        kind=pb.Kind.ValueType(memory.kind),
        text=memory.text,
        speaker=memory.speaker,
        role=pb.Role.ValueType(memory.role),
        occurred_at=from_micros(memory.occurred_at),
        created_at=from_micros(memory.created_at),
        confidence=memory.confidence,
        participants=memory.participants,
        evidence_ids=[str(id_) for id_ in memory.evidence_ids],
        supersedes_ids=[str(id_) for id_ in memory.supersedes_ids],
        related_ids=[str(id_) for id_ in memory.related_ids],
        previous_id="" if memory.previous_id is None else str(memory.previous_id),
        access_count=memory.access_count,
        is_pinned=memory.is_pinned,
        version=memory.version,
        state=pb.State.ValueType(State(memory.state)),
    )
    for name in ("valid_from", "valid_to", "last_accessed_at", "expires_at"):
        micros = getattr(memory, name)
        if micros is not None:
            getattr(message, name).CopyFrom(from_micros(micros))
    if memory.statement is not None:
        statement = memory.statement
        message.statement.CopyFrom(
            pb.Statement(subject=statement.subject, relation=statement.relation, object=statement.object)
        )
    for key, value in memory.metadata.items():
        message.metadata[key].CopyFrom(from_scalar(value))
    return message
