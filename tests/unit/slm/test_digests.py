"""What is computed of texts is computed once."""

from __future__ import annotations

import pytest

from lightmem_server.slm.digests import ByDigest


def test_a_text_is_computed_once_and_others_are_told_apart() -> None:
    asked: list[str] = []

    def length(text: str) -> int:
        asked.append(text)
        return len(text)

    remembering = ByDigest(length, most=10)
    assert [remembering(text) for text in ("", "a", "ab", "a", "", "\ud800")] == [0, 1, 2, 1, 0, 1]
    assert asked == ["", "a", "ab", "\ud800"]


def test_no_more_is_kept_than_it_may() -> None:
    remembering = ByDigest(len, most=3)
    for n in range(50):
        assert remembering("x" * n) == n
        assert len(remembering) <= 3


def test_no_text_is_kept() -> None:
    remembering = ByDigest(len, most=3)
    remembering("nobody may read this")
    assert "nobody" not in repr(vars(remembering))


def test_what_fails_is_computed_again() -> None:
    calls = []

    def fail(text: str) -> int:
        calls.append(text)
        raise ValueError(text)

    remembering = ByDigest(fail, most=3)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"):
            remembering("x")
    assert calls == ["x", "x"]
    assert len(remembering) == 0
