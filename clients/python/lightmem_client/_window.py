"""The requests that a writer has taken in and that are not acknowledged yet: a bounded, ordered window. Pure."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from lightmem_client.errors import InternalError
from lightmem_client.pb.memory_service_pb2 import WriteRequest


class InFlight(Protocol):
    """One request on its way."""

    @property
    def request(self) -> WriteRequest:
        """What is sent, as often as needed."""
        ...


P = TypeVar("P", bound=InFlight)


class Window(Generic[P]):
    """At most `limit` requests, oldest first; those before the cursor were sent on the present stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[P] = deque()
        self._sent = 0

    @property
    def is_full(self) -> bool:
        """Whether one more has to wait."""
        return len(self._items) >= self._limit

    @property
    def is_empty(self) -> bool:
        """Whether everything is acknowledged."""
        return not self._items

    @property
    def has_unsent(self) -> bool:
        """Whether there is one to send on the present stream."""
        return self._sent < len(self._items)

    def add(self, item: P) -> None:
        """Take one in, behind the others."""
        self._items.append(item)

    def take_unsent(self) -> P | None:
        """The next one to send on the present stream; it stays in the window."""
        if not self.has_unsent:
            return None
        self._sent += 1
        return self._items[self._sent - 1]

    def rewind(self) -> None:
        """A new stream begins: everything that is left is sent again, in order."""
        self._sent = 0

    def acknowledge(self, request_id: str) -> P:
        """Drop the oldest one, which the server has acknowledged.

        Raises:
            InternalError: The acknowledgement is not for the oldest one that was sent: the server broke the order.
        """
        if not self._sent or self._items[0].request.request_id != request_id:
            raise InternalError(
                f"the server acknowledged request '{request_id}' out of order", reason="ACKNOWLEDGED_OUT_OF_ORDER"
            )
        self._sent -= 1
        return self._items.popleft()

    def abandon(self) -> list[P]:
        """Give all of them up."""
        items, self._sent = list(self._items), 0
        self._items.clear()
        return items
