from __future__ import annotations

import pytest

from lightmem_client import LightMemError, NotFoundError, OverloadedError, RetryPolicy, UnavailableError
from lightmem_client._retry import Deadline, is_transient


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UnavailableError("x"), True),
        (OverloadedError("x", retry_after_seconds=0.1), True),
        (OverloadedError("message too large"), False),
        (NotFoundError("x"), False),
        (ValueError("x"), False),
    ],
    ids=repr,
)
def test_only_what_may_pass_is_repeated(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected


def test_waits_double_up_to_their_limit() -> None:
    policy = RetryPolicy(initial_seconds=0.1, max_seconds=1.0)
    for failures, longest in ((1, 0.1), (2, 0.2), (3, 0.4), (5, 1.0), (5000, 1.0)):
        for _ in range(20):
            assert longest / 2 <= policy.wait_seconds(failures, None) <= longest


def test_server_decides_the_least_wait() -> None:
    error: LightMemError = OverloadedError("x", retry_after_seconds=7.5)
    assert RetryPolicy().wait_seconds(1, error) == 7.5


def test_deadline_counts_down_to_zero() -> None:
    now = 100.0
    deadline = Deadline(2.0, now=lambda: now)
    assert deadline.remaining_seconds() == 2.0
    now = 101.5
    assert deadline.remaining_seconds() == 0.5
    now = 110.0
    assert deadline.remaining_seconds() == 0.0
