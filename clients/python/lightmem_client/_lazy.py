"""What is received in bulk and seldom looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

Received = TypeVar("Received")
Decoded = TypeVar("Decoded")


class LazySequence(Sequence[Decoded], Generic[Received, Decoded]):
    """An immutable sequence whose items are decoded together, when one of them is first asked for. Equal to a tuple, or to
    another of its kind, that holds the same."""

    def __init__(self, received: Sequence[Received], decode: Callable[[Received], Decoded]) -> None:
        """
        Args:
            received: Must not change any more.
            decode: Of one item; pure.
        """
        self._received = received
        self._decode = decode
        self._decoded: tuple[Decoded, ...] | None = None

    @overload
    def __getitem__(self, index: int) -> Decoded: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Decoded, ...]: ...

    def __getitem__(self, index: int | slice) -> Decoded | tuple[Decoded, ...]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._received)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LazySequence):
            return self._all() == other._all()
        return self._all() == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> tuple[Decoded, ...]:
        # Threads that ask at once decode twice, and the same.
        if self._decoded is None:
            self._decoded = tuple(self._decode(item) for item in self._received)
        return self._decoded
