"""Whether a record's metadata passes a filter. Pure; the Rust core's `metadata.rs` decides the same for searches.

A record that lacks a condition's key, or holds another type there, does not match, whatever the operator. int and float
are one type and compare exactly (Python does, also above 2**53); bool is a type of its own and has no order; text
compares by UTF-8 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from lightmem_server.types import AllOf, AnyOf, Condition, MetadataExpression, Not, Operator, Scalar


def matches(expression: MetadataExpression, metadata: Mapping[str, Scalar]) -> bool:
    """Whether the metadata passes. An empty AllOf holds, an empty AnyOf does not.

    >>> matches(Condition("stars", Operator.GTE, (4,)), {"stars": 4.5})
    True
    >>> matches(Not(Condition("open", Operator.EQ, (1,))), {"open": True})
    True
    """
    match expression:
        case Condition(key, operator, values):
            actual = metadata.get(key)
            return actual is not None and any(_holds(actual, operator, value) for value in values)
        case AllOf(filters):
            return all(matches(inner, metadata) for inner in filters)
        case AnyOf(filters):
            return any(matches(inner, metadata) for inner in filters)
        case Not(inner):
            return not matches(inner, metadata)


def _holds(actual: Scalar, operator: Operator, value: Scalar) -> bool:
    if isinstance(actual, bool) or isinstance(value, bool):
        return isinstance(actual, bool) and isinstance(value, bool) and _same(operator, actual == value)
    if isinstance(actual, str):
        if not isinstance(value, str):
            return False
        # Code points sort as their UTF-8 bytes do, so text compares as it is.
        return value in actual if operator is Operator.CONTAINS else _compare(actual, operator, value)
    if isinstance(value, str):
        return False
    return _compare(actual, operator, value)


def _compare(actual: str | float, operator: Operator, value: str | float) -> bool:
    is_less = actual < value  # type: ignore[operator]  # both are text or both are numbers
    is_equal = actual == value
    match operator:
        case Operator.GT:
            return not is_less and not is_equal
        case Operator.GTE:
            return not is_less
        case Operator.LT:
            return is_less
        case Operator.LTE:
            return is_less or is_equal
        case _:
            return _same(operator, is_equal)


def _same(operator: Operator, is_equal: bool) -> bool:
    match operator:
        case Operator.EQ | Operator.IN:
            return is_equal
        case Operator.NE:
            return not is_equal
        case _:
            return False
