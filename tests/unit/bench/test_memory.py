from __future__ import annotations

from tests.bench.memory import FULL_BYTES, make_conversations, measure


def test_a_turn_stays_within_its_bytes() -> None:
    (turns,) = make_conversations(1)
    full = measure(turns, rescore_vectors=True)
    lean = measure(turns, rescore_vectors=False)
    assert full.total / len(turns) <= FULL_BYTES
    assert full.vectors_rescore == len(turns) * 2 * 384
    assert lean.total == full.total - full.vectors_rescore
    # Nothing is left out: both views' vectors and scales, the words of three texts, the scalars.
    assert lean.vectors_scan == len(turns) * 2 * (384 + 4)
    assert lean.postings > 0
    assert lean.columns >= len(turns) * 98
