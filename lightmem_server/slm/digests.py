"""What was computed of texts, by their digests: a text that is looked at again and again is computed once, and nothing that
was said outlives its erasure here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ByDigest(Generic[T]):
    """A function of texts that remembers. Belongs to one thread, such as the event loop's."""

    def __init__(self, compute: Callable[[str], T], *, most: int) -> None:
        """
        Args:
            compute: Of a text; the same every time.
            most: Texts that are remembered; about 100 bytes each.
        """
        self._compute = compute
        self._most = most
        self._known: dict[bytes, T] = {}

    def __call__(self, text: str) -> T:
        """What is computed of a text."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        try:
            return self._known[digest]
        except KeyError:
            computed = self._compute(text)
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[digest] = computed
        return computed

    def __len__(self) -> int:
        return len(self._known)
