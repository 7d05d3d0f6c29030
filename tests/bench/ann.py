"""From how many rows on a graph (HNSW) beats the exact scan, and what it misses: both from the same engine's data.

Every size is asked in two engines, one with graphs and one without, in turns: one query against one view, and the default
hybrid plan (two views, dense and lexical, score fusion), with filters that let through all rows down to one in a
thousand. Recall is that of the list after rescoring, against float32 exact search over the rows that the filter leaves.

    python -m tests.bench.ann [--quick] [--sizes 20000 100000] [--output target/bench/ann.json]

The vectors are made, see kernel.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightmem_server.config import Settings
from lightmem_server.core import Engine, Rows, SearchFilter, SearchPlan, SearchResult
from lightmem_server.pipeline.retrieve import Tuning
from tests.bench.kernel import DIM, TOP, Vectors, make_queries, make_texts, make_vectors, take_turns
from tests.bench.kernel import make_rows as make_turns
from tests.bench.report import commit, machine

SIZES = [20_000, 50_000, 100_000, 200_000, 500_000]
SHARES = [1.0, 0.5, 0.2, 0.1, 0.01, 0.001]
ANN_ROWS: int = Settings.model_fields["ann_rows"].default
"""Recall is judged from here on."""
PARTITION = "u"


def make_user(count: int) -> Rows:
    """A user's turns in two views, each with a session of one in a thousand rows: an hour of their time per session."""
    turn = make_vectors(count, seed=1)
    window = turn + 0.5 * np.roll(turn, 1, axis=0)
    window /= np.linalg.norm(window, axis=1, keepdims=True)
    texts = make_texts(count, seed=4)
    windows = [f"{before} {text}" for before, text in zip(["", *texts], texts, strict=False)]
    rows = make_turns(np.stack([turn, window], axis=1), [list(pair) for pair in zip(texts, windows, strict=True)])
    # Scattered, so that no block can be left out: the agent is the filter.
    return replace(rows, agents=[f"a{number}" for number in np.random.default_rng(3).permutation(count) % 1000])


def agents(share: float) -> list[str]:
    return [] if share == 1 else [f"a{number}" for number in range(max(1, round(share * 1000)))]


def single_plan(query: Vectors, share: float) -> SearchPlan:
    """One query against one view."""
    return SearchPlan(
        vectors=query.reshape(1, DIM),
        texts=(),
        vector_weights=(1.0,),
        text_weights=(),
        dense_weights=(1.0, 0.0),
        lexical_weights=(0.0, 0.0),
        list_depth=TOP,
        max_candidates=TOP,
        now=0,
        filter=SearchFilter(agents=agents(share)),
    )


def hybrid_plan(query: Vectors, text: str, share: float) -> SearchPlan:
    """What Retrieve asks for by default: four lists and the priors."""
    tuning = Tuning()
    return SearchPlan(
        vectors=query.reshape(1, DIM),
        texts=[text],
        vector_weights=(1.0,),
        text_weights=(1.0,),
        dense_weights=tuning.dense_weights,
        lexical_weights=tuning.lexical_weights,
        list_depth=tuning.list_depth,
        max_candidates=32,
        now=0,
        filter=SearchFilter(agents=agents(share)),
        prior_weight=tuning.prior_weight,
        session_weight=tuning.session_weight,
        fusion="score",
    )


def search(engine: Engine, plan: SearchPlan) -> SearchResult:
    found = engine.search(PARTITION, plan)
    assert found is not None
    return found


def numbers(found: SearchResult) -> NDArray[np.int64]:
    return found.ids.view(np.int64)[:, 0]


def recall(rows: Rows, queries: Vectors, found: list[NDArray[np.int64]], share: float) -> float:
    """Of the TOP nearest in float32 among the rows that the filter leaves."""
    allowed = np.arange(len(rows.agents))
    if share < 1:
        wanted = set(agents(share))
        allowed = np.array([i for i, agent in enumerate(rows.agents) if agent in wanted])
    vectors = np.ascontiguousarray(rows.vectors[allowed, 0])
    hits = []
    for query, rows_found in zip(queries, found, strict=True):
        scores = vectors @ query
        top = min(TOP, len(allowed))
        truth = set(allowed[np.argpartition(scores, -top)[-top:]].tolist())
        hits.append(len(truth & set(rows_found.tolist())) / top)
    return float(np.mean(hits))


def score_errors(found: SearchResult, truth: SearchResult) -> list[float]:
    """How far the fused scores of rows that both found lie apart: mostly the error of the sampled mean cosine."""
    scores = dict(zip(numbers(truth).tolist(), truth.scores.tolist(), strict=True))
    both = zip(numbers(found).tolist(), found.scores.tolist(), strict=True)
    return [abs(score - scores[number]) for number, score in both if number in scores]


def bench_size(count: int, rounds: int, queries: int, shares: list[float]) -> dict[str, Any]:
    print(f"\n{count:,} rows, {DIM} dimensions, 2 views, one thread")
    rows = make_user(count)
    asked = make_queries(np.ascontiguousarray(rows.vectors[:, 0]), queries, seed=2)
    texts = [" ".join(rows.texts[i * 7 % count][0].split()[:6]) for i in range(queries)]
    engines = {}
    for name, ann_rows in [("exact", 0), ("graph", min(count, ANN_ROWS))]:
        engines[name] = Engine(dim=DIM, budget_bytes=1 << 40, stm_turns=8, stm_tokens=1024, ann_rows=ann_rows)
        engines[name].load(PARTITION, 1, rows)
    started = time.perf_counter()
    while engines["graph"].build_ann(PARTITION, 1024):
        pass
    made: dict[str, Any] = {
        "build_seconds": time.perf_counter() - started,
        "exact_bytes_per_row": engines["exact"].stats().size_bytes / count,
        "graph_bytes_per_row": (engines["graph"].stats().size_bytes - engines["exact"].stats().size_bytes) / count,
    }
    print("  " + ", ".join(f"{name} {value:,.1f}" for name, value in made.items()))
    for share in shares:
        single = [single_plan(query, share) for query in asked]
        hybrid = [hybrid_plan(query, text, share) for query, text in zip(asked, texts, strict=True)]
        graph, exact = engines["graph"], engines["exact"]
        runs = {
            f"{kind} {name}": lambda i, e=engine, plans=plans: e.search(PARTITION, plans[i % queries])
            for kind, plans in [("single", single), ("hybrid", hybrid)]
            for name, engine in engines.items()
        }
        seconds = take_turns(runs, rounds, queries)
        ms = {f"{name} p50_ms": statistics.median(values) * 1e3 for name, values in seconds.items()}
        of_graph = [search(graph, plan) for plan in single]
        pairs = [(search(graph, plan), search(exact, plan)) for plan in hybrid]
        same = [len(set(numbers(a)[:TOP]) & set(numbers(b)[:TOP])) / max(1, min(TOP, len(b.ids))) for a, b in pairs]
        errors = [error for a, b in pairs for error in score_errors(a, b)]
        figures = {
            **ms,
            "single is_exact": all(found.is_exact for found in of_graph),
            "hybrid is_exact": all(found.is_exact for found, _ in pairs),
            "recall_at_10": recall(rows, asked, [numbers(found) for found in of_graph], share),
            "hybrid_overlap_at_10": float(np.mean(same)),
            "score_error": float(np.mean(errors)) if errors else 0.0,
        }
        made[f"filter {share:g}"] = figures
        print(f"  filter {share:<6g}" + "  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: checks that the bench works, judges nothing")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES)
    parser.add_argument("--output", type=Path, default=Path("target/bench/ann.json"))
    args = parser.parse_args()
    sizes, rounds, queries = ([2_000], 1, 20) if args.quick else (args.sizes, 5, 40)
    figures = {str(count): bench_size(count, rounds, queries, args.shares) for count in sizes}
    targets = {
        f"{size}.recall_at_10": {"value": value, "bar": 0.95, "ok": value >= 0.95}
        for size, made in figures.items()
        if int(size) >= ANN_ROWS
        for value in [min(made[f"filter {share:g}"]["recall_at_10"] for share in args.shares)]
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).parents[2]
    content = {
        "machine": machine(),
        "commit": commit(root),
        "settings": {"dim": DIM, "top": TOP, "rounds": rounds, "queries": queries},
        "figures": figures,
        "targets": targets,
    }
    args.output.write_text(json.dumps(content, indent=2) + "\n")
    for name, target in targets.items():
        print(f"{'ok  ' if target['ok'] else 'MISS'} {name} {target['value']:.3f} >= {target['bar']}")
    return 0 if args.quick or all(target["ok"] for target in targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
