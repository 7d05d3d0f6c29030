"""Which memories an operation considers, and expressions over their metadata.

>>> (Meta("city") == "Rome") & ~Meta("topic").is_in("work", "tax")
AllOf(filters=(Condition(key='city', operator=<Operator.EQ: 1>, values=('Rome',)), Not(filter=Condition(key='topic', \
operator=<Operator.IN: 7>, values=('work', 'tax')))))
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NoReturn

from lightmem_client._types import Kind, Scalar, Tier


class Operator(IntEnum):
    """How a record's value compares with a condition's values."""

    EQ = 1
    NE = 2
    GT = 3
    GTE = 4
    LT = 5
    LTE = 6
    IN = 7
    CONTAINS = 8


class Expression:
    """A boolean expression over metadata; combine with `&`, `|` and `~`.

    A record that lacks a condition's key, or holds a value of another type, does not match it, whatever the
    operator; int and float compare as numbers. At most 64 conditions and 8 levels.
    """

    __slots__ = ()

    def __and__(self, other: Expression) -> AllOf:
        return AllOf(_operands(self, AllOf) + _operands(other, AllOf))

    def __or__(self, other: Expression) -> AnyOf:
        return AnyOf(_operands(self, AnyOf) + _operands(other, AnyOf))

    def __invert__(self) -> Not:
        return Not(self)

    def __bool__(self) -> NoReturn:
        """Refused: `and`, `or`, `not` and chained comparisons would silently lose a part."""
        raise TypeError("a filter expression has no truth value; combine with &, | and ~, each side in parentheses")


@dataclass(frozen=True, slots=True)
class Condition(Expression):
    """One comparison of one key."""

    key: str
    operator: Operator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class AllOf(Expression):
    """Holds when all of its expressions do."""

    filters: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AnyOf(Expression):
    """Holds when at least one of its expressions does."""

    filters: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not(Expression):
    """Holds when its expression does not."""

    filter: Expression


def _operands(expression: Expression, kind: type[AllOf] | type[AnyOf]) -> tuple[Expression, ...]:
    """The parts of a chain `a & b & c`, so that it stays one level deep."""
    return expression.filters if isinstance(expression, kind) else (expression,)


class Meta:
    """A metadata key to compare: `Meta("city") == "Rome"`, `Meta("year") >= 2020`."""

    __slots__ = ("key",)
    __hash__ = None  # type: ignore[assignment]  # == gives a condition, so it has no place in a set

    def __init__(self, key: str) -> None:
        self.key = key

    def __eq__(self, value: Scalar) -> Condition:  # type: ignore[override]
        return Condition(self.key, Operator.EQ, (value,))

    def __ne__(self, value: Scalar) -> Condition:  # type: ignore[override]
        return Condition(self.key, Operator.NE, (value,))

    def __gt__(self, value: Scalar) -> Condition:
        return Condition(self.key, Operator.GT, (value,))

    def __ge__(self, value: Scalar) -> Condition:
        return Condition(self.key, Operator.GTE, (value,))

    def __lt__(self, value: Scalar) -> Condition:
        return Condition(self.key, Operator.LT, (value,))

    def __le__(self, value: Scalar) -> Condition:
        return Condition(self.key, Operator.LTE, (value,))

    def is_in(self, *values: Scalar) -> Condition:
        """Equal to one of 1 to 64 values."""
        return Condition(self.key, Operator.IN, values)

    def contains(self, text: str) -> Condition:
        """A text that contains `text`, case-sensitive."""
        return Condition(self.key, Operator.CONTAINS, (text,))


@dataclass(frozen=True, slots=True)
class MemoryFilter:
    """Which memories to consider. Empty fields don't restrict; several hold together.

    Attributes:
        tiers: One of these; STM is refused, it is the context and not a place that is searched.
        kinds: One of these.
        session_ids: One of these, at most 64.
        agent_ids: One of these, at most 64.
        occurred_from: `occurred_at` at or after this, with a time zone.
        occurred_to: `occurred_at` before this, with a time zone.
        as_of: Facts as they held at this moment, with a time zone. None: as they hold now.
        metadata: An expression over metadata.
        include_archived: Also archived records; for `list` alone.
    """

    tiers: Collection[Tier] = ()
    kinds: Collection[Kind] = ()
    session_ids: Collection[str] = ()
    agent_ids: Collection[str] = ()
    occurred_from: datetime | None = None
    occurred_to: datetime | None = None
    as_of: datetime | None = None
    metadata: Expression | None = None
    include_archived: bool = False
