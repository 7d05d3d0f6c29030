"""When a failed call is tried again, and how long to wait before."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tenacity

from lightmem_client.errors import InvalidArgumentError, LightMemError, OverloadedError, UnavailableError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast a call is repeated that may be. Waits double, with jitter, within the call's timeout.

    Attributes:
        max_attempts: Most tries of one call, the first included. 1: none is repeated.
        initial_seconds: The longest first wait.
        max_seconds: The longest wait.
    """

    max_attempts: int = 5
    initial_seconds: float = 0.1
    max_seconds: float = 2.0

    def wait_seconds(self, failures: int, error: BaseException | None) -> float:
        """How long to wait after so many failures in a row, at least as long as the server asks for."""
        longest = min(self.max_seconds, self.initial_seconds * 2 ** min(failures - 1, 30))
        asked = error.retry_after_seconds if isinstance(error, LightMemError) else None
        return max(asked or 0.0, random.uniform(longest / 2, longest))  # noqa: S311  # jitter, not a secret


LONGEST_SECONDS = 365 * 86_400.0
"""What stands for no end: beyond it gRPC and threads count wrong."""


def bounded_seconds(timeout_seconds: float) -> float:
    """A timeout that can be counted; math.inf is none, which comes to a year.

    Raises:
        InvalidArgumentError: It is not a number.
    """
    if math.isnan(timeout_seconds):
        raise InvalidArgumentError("timeout_seconds: is not a number", reason="OUT_OF_RANGE", field="timeout_seconds")
    return min(timeout_seconds, LONGEST_SECONDS)


class Deadline:
    """The moment by which a call with all its repetitions ends."""

    def __init__(self, timeout_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ends_at = now() + bounded_seconds(timeout_seconds)

    def remaining_seconds(self) -> float:
        """Seconds left, not negative."""
        return max(0.0, self._ends_at - self._now())


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: no server there, or one that says when to come back."""
    if isinstance(error, OverloadedError):
        return error.retry_after_seconds is not None  # without: a message too large, which stays so
    return isinstance(error, UnavailableError)


def retry_arguments(policy: RetryPolicy, deadline: Deadline, *, is_repeatable: bool) -> dict[str, Any]:
    """The arguments of tenacity's Retrying or AsyncRetrying.

    The last error is raised as it is when the attempts are used up, or when the next wait would pass the deadline.
    """

    def wait(retry_state: tenacity.RetryCallState) -> float:
        error = None if retry_state.outcome is None else retry_state.outcome.exception()
        return policy.wait_seconds(retry_state.attempt_number, error)

    def is_over(retry_state: tenacity.RetryCallState) -> bool:
        if retry_state.attempt_number >= policy.max_attempts:
            return True
        return retry_state.upcoming_sleep >= deadline.remaining_seconds()

    return {
        "retry": tenacity.retry_if_exception(is_transient) if is_repeatable else tenacity.retry_never,
        "stop": is_over,
        "wait": wait,
        "reraise": True,
    }
