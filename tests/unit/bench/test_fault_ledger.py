"""The crash harness finds what it is there to find."""

from __future__ import annotations

import pytest

from tests.bench.fault_ledger import Delete, Erase, Findings, Ledger, Stored, Update, Write


@pytest.fixture
def ledger() -> Ledger:
    """A write of two turns, an update of the first and a deletion of the second, acknowledged: three commits."""
    ledger = Ledger("ann")
    write = Write("r1", "s", ("one", "two"))
    for operation, ids in ((write, ["a", "b"]), (Update("a", 1, 7), ()), (Delete("b"), ())):
        ledger.begin(operation)
        ledger.acknowledge(operation, ids)
    return ledger


def counts(findings: Findings) -> tuple[int, int]:
    return len(findings.lost), len(findings.corrupted)


WHOLE = {"a": Stored("one", 2, 7)}


def test_what_is_as_acknowledged_is_no_finding(ledger: Ledger) -> None:
    assert counts(ledger.settle(WHOLE, 3)) == (0, 0)
    assert ledger.acknowledged == 3


@pytest.mark.parametrize(
    ("stored", "version", "expected"),
    [
        ({}, 3, (1, 0)),
        ({"a": Stored("one")}, 3, (1, 0)),
        (WHOLE | {"b": Stored("two")}, 3, (1, 0)),
        ({"a": Stored("One", 2, 7)}, 3, (0, 1)),
        ({"a": Stored("one", 2, 8)}, 3, (0, 1)),
        ({"a": Stored("one", 3, 7)}, 3, (0, 1)),
        (WHOLE | {"c": Stored("three")}, 3, (0, 1)),
        (WHOLE, 4, (0, 1)),
    ],
    ids=[
        "turn lost",
        "update lost",
        "deletion lost",
        "other bytes",
        "other number",
        "extra version",
        "stranger",
        "gap",
    ],
)
def test_what_is_not_is_found(
    ledger: Ledger, stored: dict[str, Stored], version: int, expected: tuple[int, int]
) -> None:
    assert counts(ledger.settle(stored, version)) == expected


@pytest.mark.parametrize("is_there", [True, False], ids=["whole", "absent"])
def test_what_was_under_way_may_be_whole_or_absent(ledger: Ledger, is_there: bool) -> None:
    write = Write("r2", "s", ("three", "four"))
    ledger.begin(write)
    there = {"c": Stored("three"), "d": Stored("four")} if is_there else {}
    assert counts(ledger.settle(WHOLE | there, 3 + is_there)) == (0, 0)
    assert write.ids == (("c", "d") if is_there else ())
    assert counts(ledger.settle(WHOLE | there, 3 + is_there)) == (0, 0), "decided for good"


def test_half_of_what_was_under_way_is_found(ledger: Ledger) -> None:
    ledger.begin(Write("r2", "s", ("three", "four")))
    assert counts(ledger.settle(WHOLE | {"c": Stored("three")}, 4)) == (0, 3)  # in part, by nobody, and a version


@pytest.mark.parametrize("is_there", [True, False], ids=["whole", "absent"])
def test_updates_and_deletions_under_way_are_decided(ledger: Ledger, is_there: bool) -> None:
    ledger.begin(Update("a", 2, 8))
    now = {"a": Stored("one", 3, 8)} if is_there else WHOLE
    assert counts(ledger.settle(now, 3 + is_there)) == (0, 0)
    ledger.begin(Delete("a"))
    assert counts(ledger.settle({} if is_there else WHOLE, 3 + 2 * is_there)) == (0, 0)


@pytest.mark.parametrize("is_there", [True, False], ids=["made", "not made"])
def test_an_erasure_under_way_takes_all_or_nothing(ledger: Ledger, is_there: bool) -> None:
    ledger.begin(Erase())
    assert counts(ledger.settle({} if is_there else WHOLE, 0 if is_there else 3)) == (0, 0)
    assert ledger.erased_texts == (["one"] if is_there else [])


def test_what_was_erased_must_be_absent(ledger: Ledger) -> None:
    ledger.begin(Erase())
    ledger.acknowledge(Erase())
    assert counts(ledger.settle(WHOLE, 0)) == (1, 0)


def test_what_was_refused_must_be_absent(ledger: Ledger) -> None:
    write = Write("r2", "s", ("three",))
    ledger.begin(write)
    ledger.refuse(write)
    assert counts(ledger.settle(WHOLE | {"c": Stored("three")}, 4)) == (0, 2)
