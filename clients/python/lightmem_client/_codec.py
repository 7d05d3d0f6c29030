"""Python to proto and back for the records and filters. Pure: no I/O, and the one place that knows both sides.

What can be told to be wrong without the server is refused here with InvalidArgumentError; limits that are the server's
settings are left to the server.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from lightmem_client._filters import AllOf, AnyOf, Condition, Expression, MemoryFilter, Not
from lightmem_client._types import Kind, Memory, Role, Scalar, State, Statement, Tier, Turn
from lightmem_client.errors import InvalidArgumentError
from lightmem_client.pb import memory_pb2 as pb

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_INT64 = 2**63 - 1

E = TypeVar("E", bound=IntEnum)


def to_text(value: str, field: str) -> str:
    """A text that can be sent.

    Raises:
        InvalidArgumentError: Another type, or half of a character, which would arrive as another text.
    """
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{field}: {type(value).__name__} is not a str", reason="WRONG_TYPE", field=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"{field}: has half of a character (a lone surrogate)", reason="MALFORMED", field=field
        ) from error
    return value


def to_count(value: int, field: str, *, least: int = 1, bits: int = 32) -> int:
    """A whole number. 0 often means a default, which whoever computed a 0 did not want; so most counts begin at 1.

    Raises:
        InvalidArgumentError: Another type, or out of range.
    """
    if not isinstance(value, int) or not least <= value < 2**bits:
        raise InvalidArgumentError(
            f"{field}: must be a whole number and at least {least}, not {value!r}", reason="OUT_OF_RANGE", field=field
        )
    return value


def to_timestamp(value: datetime, field: str) -> Timestamp:
    """The Timestamp of an aware datetime, to the microsecond.

    Raises:
        InvalidArgumentError: Another type, or the datetime has no time zone: it names no moment.
    """
    if not isinstance(value, datetime):
        raise InvalidArgumentError(
            f"{field}: {type(value).__name__} is not a datetime", reason="WRONG_TYPE", field=field
        )
    if value.utcoffset() is None:
        raise InvalidArgumentError(
            f"{field}: {value.isoformat()} has no time zone; give it one, such as tzinfo=datetime.UTC",
            reason="NAIVE_DATETIME",
            field=field,
        )
    delta = value - EPOCH
    return Timestamp(seconds=delta.days * 86_400 + delta.seconds, nanos=delta.microseconds * 1000)


def from_timestamp(value: Timestamp) -> datetime:
    """The moment in UTC, to the microsecond."""
    return EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def to_duration(seconds: float, field: str) -> Duration:
    """The Duration of a positive number of seconds, to the microsecond.

    Raises:
        InvalidArgumentError: Not a positive, finite number.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidArgumentError(
            f"{field}: must be more than 0 seconds, not {seconds}", reason="OUT_OF_RANGE", field=field
        )
    whole, micros = divmod(max(1, round(seconds * 1_000_000)), 1_000_000)
    return Duration(seconds=whole, nanos=micros * 1000)


def from_duration(value: Duration) -> float:
    """Seconds."""
    return value.seconds + value.nanos / 1e9


def to_enum(kind: type[E], number: int) -> E:
    """The member of a number; UNSPECIFIED for one that a newer server made."""
    try:
        return kind(number)
    except ValueError:
        return kind(0)


def to_scope(user_id: str, *, agent_id: str = "", session_id: str = "") -> pb.Scope:
    """Whose memory it is.

    Raises:
        InvalidArgumentError: No user.
    """
    if not user_id:
        raise InvalidArgumentError(
            "user_id: is required; give it to the call or to the client", reason="REQUIRED", field="scope.user_id"
        )
    return pb.Scope(
        user_id=to_text(user_id, "scope.user_id"),
        agent_id=to_text(agent_id, "scope.agent_id"),
        session_id=to_text(session_id, "scope.session_id"),
    )


def to_scalar(value: Scalar, field: str) -> pb.MetadataValue:
    """A metadata value. bool before int, which Python takes it for.

    Raises:
        InvalidArgumentError: Another type, an int beyond 64 bits, or a float that is not finite.
    """
    if isinstance(value, bool):
        return pb.MetadataValue(bool_value=value)
    if isinstance(value, str):
        return pb.MetadataValue(string_value=to_text(value, field))
    if isinstance(value, int):
        if not -MAX_INT64 - 1 <= value <= MAX_INT64:
            raise InvalidArgumentError(f"{field}: {value} is beyond 64 bits", reason="OUT_OF_RANGE", field=field)
        return pb.MetadataValue(int_value=value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgumentError(f"{field}: {value} is not finite", reason="OUT_OF_RANGE", field=field)
        return pb.MetadataValue(double_value=value)
    raise InvalidArgumentError(
        f"{field}: {type(value).__name__} is not a str, int, float or bool", reason="WRONG_TYPE", field=field
    )


def from_scalar(value: pb.MetadataValue) -> Scalar:
    """A metadata value; "" for a kind that a newer server made."""
    match value.WhichOneof("value"):
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case _:
            return value.string_value


def to_turns(turns: str | Turn | Iterable[str | Turn]) -> list[pb.Turn]:
    """One turn or several; plain text is a turn too.

    Raises:
        InvalidArgumentError: None at all, or one with a value that cannot be sent.
    """
    if not isinstance(turns, Iterable | Turn):
        raise InvalidArgumentError(
            f"turns: {type(turns).__name__} is not a str, a Turn or several of them", reason="WRONG_TYPE", field="turns"
        )
    several = [turns] if isinstance(turns, str | Turn) else list(turns)
    if not several:
        raise InvalidArgumentError("turns: at least one is required", reason="REQUIRED", field="turns")
    return [_to_turn(turn, f"turns[{i}]") for i, turn in enumerate(several)]


def _to_turn(turn: str | Turn, field: str) -> pb.Turn:
    if isinstance(turn, str):
        return pb.Turn(text=to_text(turn, f"{field}.text"))
    if not isinstance(turn, Turn):
        raise InvalidArgumentError(
            f"{field}: {type(turn).__name__} is not a str or a Turn", reason="WRONG_TYPE", field=field
        )
    return pb.Turn(
        text=to_text(turn.text, f"{field}.text"),
        speaker=to_text(turn.speaker, f"{field}.speaker"),
        role=pb.Role.ValueType(turn.role),
        occurred_at=None if turn.occurred_at is None else to_timestamp(turn.occurred_at, f"{field}.occurred_at"),
        metadata=to_metadata(turn.metadata, f"{field}.metadata"),
        is_pinned=turn.is_pinned,
        expires_at=None if turn.expires_at is None else to_timestamp(turn.expires_at, f"{field}.expires_at"),
    )


def to_metadata(metadata: Mapping[str, Scalar], field: str) -> dict[str, pb.MetadataValue]:
    """Metadata, value by value.

    Raises:
        InvalidArgumentError: A key or a value that cannot be sent.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidArgumentError(
            f"{field}: {type(metadata).__name__} is not a mapping", reason="WRONG_TYPE", field=field
        )
    return {to_text(key, f"{field}[{key!r}]"): to_scalar(value, f"{field}[{key}]") for key, value in metadata.items()}


def to_memory(value: pb.Memory) -> Memory:
    """A record."""
    return Memory(
        id=value.id,
        user_id=value.scope.user_id,
        agent_id=value.scope.agent_id,
        session_id=value.scope.session_id,
        tier=to_enum(Tier, value.tier),
        kind=to_enum(Kind, value.kind),
        text=value.text,
        speaker=value.speaker,
        role=to_enum(Role, value.role),
        occurred_at=_optional_time(value, "occurred_at"),
        created_at=_optional_time(value, "created_at"),
        valid_from=_optional_time(value, "valid_from"),
        valid_to=_optional_time(value, "valid_to"),
        confidence=value.confidence,
        evidence_ids=tuple(value.evidence_ids),
        supersedes_ids=tuple(value.supersedes_ids),
        related_ids=tuple(value.related_ids),
        previous_id=value.previous_id,
        metadata={key: from_scalar(item) for key, item in value.metadata.items()},
        is_pinned=value.is_pinned,
        expires_at=_optional_time(value, "expires_at"),
        version=value.version,
        state=to_enum(State, value.state),
        access_count=value.access_count,
        last_accessed_at=_optional_time(value, "last_accessed_at"),
        statement=_to_statement(value.statement) if value.HasField("statement") else None,
        participants=tuple(value.participants),
    )


def _to_statement(value: pb.Statement) -> Statement:
    return Statement(value.subject, value.relation, value.object)


def _optional_time(value: pb.Memory, name: str) -> datetime | None:
    return from_timestamp(getattr(value, name)) if value.HasField(name) else None  # type: ignore[arg-type]


def to_filter(value: MemoryFilter | Expression) -> pb.MemoryFilter:
    """A filter; an expression alone is a filter over metadata.

    Raises:
        InvalidArgumentError: A time without zone, or a value that cannot be sent.
    """
    if isinstance(value, Expression):
        value = MemoryFilter(metadata=value)
    for name in ("tiers", "kinds", "session_ids", "agent_ids"):
        if isinstance(getattr(value, name), str):
            raise InvalidArgumentError(
                f"filter.{name}: takes several values, not one text", reason="WRONG_TYPE", field=f"filter.{name}"
            )
    times = {
        name: to_timestamp(moment, f"filter.{name}")
        for name in ("occurred_from", "occurred_to", "as_of")
        if (moment := getattr(value, name)) is not None
    }
    return pb.MemoryFilter(
        tiers=[pb.Tier.ValueType(tier) for tier in value.tiers],
        kinds=[pb.Kind.ValueType(kind) for kind in value.kinds],
        session_ids=value.session_ids,
        agent_ids=value.agent_ids,
        metadata=None if value.metadata is None else _to_expression(value.metadata, "filter.metadata"),
        include_archived=value.include_archived,
        **times,
    )


def _to_expression(expression: Expression, field: str) -> pb.MetadataFilter:
    match expression:
        case Condition(key, operator, values):
            return pb.MetadataFilter(
                condition=pb.MetadataCondition(
                    key=key,
                    operator=pb.MetadataCondition.Operator.ValueType(operator),
                    values=[to_scalar(value, f"{field}[{key}]") for value in values],
                )
            )
        case AllOf(filters):
            return pb.MetadataFilter(all_of=_to_list(filters, field))
        case AnyOf(filters):
            return pb.MetadataFilter(any_of=_to_list(filters, field))
        case Not(negated):
            return pb.MetadataFilter(**{"not": _to_expression(negated, field)})  # type: ignore[arg-type]  # a keyword
        case _:
            raise InvalidArgumentError(
                f"{field}: {type(expression).__name__} is not a filter expression", reason="WRONG_TYPE", field=field
            )


def _to_list(filters: Iterable[Expression], field: str) -> pb.MetadataFilter.List:
    return pb.MetadataFilter.List(filters=[_to_expression(item, field) for item in filters])
