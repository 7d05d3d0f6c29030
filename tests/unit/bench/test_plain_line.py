from __future__ import annotations

import pytest

from tests.bench.plain_line import fuse, to_match


def test_fusion_prefers_what_both_lists_hold() -> None:
    assert fuse([[1, 2, 3], [3, 4]], 3) == [3, 1, 2]  # 2 and 4 are even, and 2 comes first
    assert fuse([[], [5]], 3) == [5]


@pytest.mark.parametrize(
    ("query", "match"),
    [("Who?", '"Who"'), ('say "no" OR*', '"say" OR "no" OR "OR"'), ("", "")],
    ids=["one", "syntax", "empty"],
)
def test_no_query_is_fts_syntax(query: str, match: str) -> None:
    assert to_match(query) == match
