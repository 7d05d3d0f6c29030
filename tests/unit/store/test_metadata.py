"""Metadata filters: cases, and random ones against a plain reading of the rule."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.store.metadata import matches
from lightmem_server.types import AllOf, AnyOf, Condition, MetadataExpression, Not, Operator, Scalar

OPERATORS = list(Operator)
ORDERED = (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)


def holds(actual: Scalar, operator: Operator, *values: Scalar) -> bool:
    return matches(Condition("k", operator, values), {"k": actual, "other": "x"})


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
def test_absent_key_never_matches(operator: Operator) -> None:
    assert not matches(Condition("k", operator, ("x",)), {})
    assert not matches(Condition("k", operator, ("x",)), {"K": "x"})


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
@pytest.mark.parametrize(
    ("actual", "value"),
    [("1", 1), (1, "1"), (True, 1), (1, True), (False, 0.0), (0.0, False), (True, "True"), ("True", True)],
    ids=repr,
)
def test_other_type_never_matches(operator: Operator, actual: Scalar, value: Scalar) -> None:
    assert not holds(actual, operator, value)


def test_numbers_are_one_type_and_compare_exactly() -> None:
    assert holds(1, Operator.EQ, 1.0)
    assert not holds(1, Operator.NE, 1.0)
    assert holds(2**53 + 1, Operator.GT, float(2**53))
    assert not holds(2**53 + 1, Operator.EQ, float(2**53))
    assert holds(-0.0, Operator.EQ, 0)


def test_truth_values_are_equal_or_not_and_have_no_order() -> None:
    assert holds(True, Operator.EQ, True)
    assert holds(True, Operator.NE, False)
    assert holds(False, Operator.IN, True, False)
    assert not any(holds(True, operator, False) or holds(True, operator, True) for operator in ORDERED)


def test_text_compares_by_bytes() -> None:
    assert holds("\uffff", Operator.LT, "\U00010000"), "in UTF-16 it would be the other way round"
    assert holds("Z", Operator.LT, "a")
    assert holds("e\u0301", Operator.NE, "é")


def test_contains_is_for_text_alone() -> None:
    assert holds("straße", Operator.CONTAINS, "raß")
    assert holds("x", Operator.CONTAINS, "")
    assert not holds("straße", Operator.CONTAINS, "RAß")
    assert not holds(123, Operator.CONTAINS, 2)


def test_in_matches_any_of_its_values() -> None:
    assert holds(2, Operator.IN, "2", 1, 2.0)
    assert not holds(3, Operator.IN, "3", 1, 2.0)


def test_empty_lists() -> None:
    assert matches(AllOf(()), {})
    assert not matches(AnyOf(()), {})


scalars: st.SearchStrategy[Scalar] = (
    st.sampled_from(["", "a", "ab", "b", "é", "1"])
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0**53])
    | st.sampled_from([2**53, 2**53 + 1])
    | st.booleans()
)
keys = st.sampled_from(["k", "l"])
conditions = st.builds(
    Condition,
    keys,
    st.sampled_from(Operator),
    st.lists(scalars, min_size=1, max_size=3).map(tuple),
).map(lambda condition: condition if condition.operator is Operator.IN else _first_value(condition))
expressions: st.SearchStrategy[MetadataExpression] = st.recursive(
    conditions,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(AllOf, st.lists(inner, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple))
    ),
    max_leaves=8,
)


def _first_value(condition: Condition) -> Condition:
    return Condition(condition.key, condition.operator, condition.values[:1])


def comparable(value: Scalar) -> tuple[str, bytes | Fraction | bool]:
    """Its type, and what it compares by."""
    match value:
        case bool():
            return "bool", value
        case str():
            return "text", value.encode()
        case _:
            return "number", Fraction(value)


def reference(expression: MetadataExpression, metadata: dict[str, Scalar]) -> bool:
    """The rule, read slowly: negation by De Morgan, values by exact fractions and bytes."""
    match expression:
        case Not(AllOf(filters)):
            return reference(AnyOf(tuple(Not(inner) for inner in filters)), metadata)
        case Not(AnyOf(filters)):
            return reference(AllOf(tuple(Not(inner) for inner in filters)), metadata)
        case Not(inner):
            return reference(inner, metadata) is False
        case AllOf(filters):
            return [reference(inner, metadata) for inner in filters].count(False) == 0
        case AnyOf(filters):
            return [reference(inner, metadata) for inner in filters].count(True) > 0
        case Condition(key, operator, values):
            return key in metadata and any(reference_holds(metadata[key], operator, value) for value in values)


def reference_holds(actual: Scalar, operator: Operator, value: Scalar) -> bool:
    (kind, a), (value_kind, b) = comparable(actual), comparable(value)
    if kind != value_kind:
        return False
    if operator is Operator.CONTAINS:
        return isinstance(a, bytes) and isinstance(b, bytes) and b in a
    if kind == "bool" and operator in ORDERED:
        return False
    order = (a > b) - (a < b)  # type: ignore[operator]
    return {
        Operator.EQ: order == 0,
        Operator.IN: order == 0,
        Operator.NE: order != 0,
        Operator.GT: order > 0,
        Operator.GTE: order >= 0,
        Operator.LT: order < 0,
        Operator.LTE: order <= 0,
    }[operator]


@given(expressions, st.dictionaries(keys, scalars))
def test_matches_as_the_rule_says(expression: MetadataExpression, metadata: dict[str, Scalar]) -> None:
    assert matches(expression, metadata) == reference(expression, metadata)
