"""Bytes that a memory takes in the engine, by what for, on the turns of real conversations; and what the rescoring planes
of the vectors are worth in recall.

    python -m tests.bench.memory [--data locomo10.json] [--layout locomo] [--quick]

Each conversation is loaded as a user's partition with everything the server gives it (both views, session texts, links,
heat), then all of them as one. The vectors are made (tests/bench/kernel.py): their bytes don't depend on what is in them,
and for the recall they have the spectrum of sentence embeddings. Without data the turns are made too.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightmem_server.core import Engine, PartitionSizes, Rows, SearchPlan
from lightmem_server.pipeline.passages import PRECEDING_TURNS, lexical_views, session_passage
from lightmem_server.types import Kind, Memory, Tier
from tests.bench.datasets import read_jsonl, read_locomo
from tests.bench.kernel import DIM, TOP, dense_plan, make_queries, make_rows, make_texts, make_vectors

READERS = {"locomo": read_locomo, "jsonl": read_jsonl}
DEFAULT_DATA = Path(__file__).parents[2].parent / "shared" / "data" / "locomo10.json"
LEAN_BYTES, FULL_BYTES = 1638, 3276
"""What a typical turn may take without and with the rescoring planes: 1.6 and 3.2 KiB."""


def read_conversations(data: Path, layout: str) -> list[list[Memory]]:
    """Turns as the server keeps them, per conversation."""
    return [
        [
            Memory(
                uuid.uuid4(),
                Tier.MTM,
                Kind.TURN,
                turn.text,
                int(turn.occurred_at.timestamp() * 1e6),
                0,
                session_id=session.session_id,
                speaker=turn.speaker,
            )
            for session in conversation.sessions
            for turn in session.turns
        ]
        for conversation in READERS[layout](data)
    ]


def make_conversations(count: int) -> list[list[Memory]]:
    """Conversations of 600 made turns."""
    # Half of what people say are words that the analyser drops.
    texts = [" the ".join(text.split()[::2]) for text in make_texts(600 * count, seed=1)]
    turns = [
        Memory(
            uuid.uuid4(), Tier.MTM, Kind.TURN, text, i * 1_000_000, 0, session_id=f"s{i // 20}", speaker=f"ann{i % 2}"
        )
        for i, text in enumerate(texts)
    ]
    return [turns[i : i + 600] for i in range(0, len(turns), 600)]


def to_rows(turns: Sequence[Memory]) -> Rows:
    """What the server would load."""
    vectors = make_vectors(2 * len(turns), seed=2).reshape(len(turns), 2, DIM)
    texts = []
    for i, turn in enumerate(turns):
        preceding = [other for other in turns[max(i - PRECEDING_TURNS, 0) : i] if other.session_id == turn.session_id]
        texts.append(list(lexical_views(turn, preceding)))
    rows = make_rows(vectors, texts)
    columns = {name: getattr(rows, name) for name in rows.__slots__}
    columns["sessions"] = [turn.session_id for turn in turns]
    columns["speakers"] = [turn.speaker for turn in turns]
    columns["session_texts"] = [session_passage(turn) for turn in turns]
    columns["ids"] = np.frombuffer(b"".join(turn.id.bytes for turn in turns), np.uint8).reshape(len(turns), 16)
    return Rows(**columns)


def measure(turns: Sequence[Memory], *, rescore_vectors: bool) -> PartitionSizes:
    """Bytes of a partition with these turns."""
    engine = Engine(dim=DIM, budget_bytes=1 << 40, stm_turns=24, stm_tokens=1024, rescore_vectors=rescore_vectors)
    engine.load("u", 1, to_rows(turns))
    sizes = engine.sizes("u")
    assert sizes is not None
    return sizes


def measure_recall(count: int, *, rescore_vectors: bool, queries: int = 200) -> float:
    """Recall@10 of one dense view against exact search in float32."""
    vectors = make_vectors(count, seed=3)
    engine = Engine(
        dim=DIM,
        budget_bytes=1 << 40,
        stm_turns=1,
        stm_tokens=1,
        view_names=["turn"],
        rescore_vectors=rescore_vectors,
    )
    engine.load("u", 1, make_rows(vectors[:, None], [[""]] * count))
    hits = 0
    for query in make_queries(vectors, queries, seed=4):
        expected = set(np.argsort(-(vectors @ query))[:TOP].tolist())
        plan: SearchPlan = dense_plan(query)
        found = engine.search("u", plan)
        assert found is not None
        hits += len(expected & set(found.ids.view(np.int64)[:, 0].tolist()))
    return hits / (TOP * queries)


def main() -> int:
    """Print the tables; 1 when a turn takes more than it may."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--layout", choices=sorted(READERS), default="locomo")
    parser.add_argument("--quick", action="store_true", help="recall over fewer rows")
    options = parser.parse_args()
    if options.data.exists():
        conversations = read_conversations(options.data, options.layout)
    else:
        print(f"no data at {options.data}: the turns are made")
        conversations = make_conversations(4)
    everything = [turn for turns in conversations for turn in turns]
    print(f"{len(conversations)} conversations, {len(everything)} turns, {DIM} dimensions, 2 views; bytes a turn")
    is_within = True
    for rescore_vectors, most in [(False, LEAN_BYTES), (True, FULL_BYTES)]:
        alone = [measure(turns, rescore_vectors=rescore_vectors) for turns in conversations]
        together = measure(everything, rescore_vectors=rescore_vectors)
        for name, sizes in [("a partition each", alone), ("one partition", [together])]:
            total = sum(size.total for size in sizes) / len(everything)
            parts = ", ".join(
                f"{part} {sum(getattr(size, part) for size in sizes) / len(everything):.0f}"
                for part in together.__slots__
            )
            is_within &= total <= most
            print(f"rescore_vectors={rescore_vectors!s:5} {name:16} {total:6.0f} of {most}: {parts}")
    for count in [10_000] if options.quick else [10_000, 100_000]:
        for rescore_vectors in [False, True]:
            recall = measure_recall(count, rescore_vectors=rescore_vectors)
            print(f"recall@{TOP} over {count} rows, rescore_vectors={rescore_vectors!s:5} {recall:.4f}")
    return 0 if is_within else 1


if __name__ == "__main__":
    raise SystemExit(main())
