"""How fast the core searches one partition, beside what one would use instead, in one process on one machine.

Only ratios are judged: every contender answers the same queries over the same vectors in turns, round after round, so
that what else the machine does falls on all of them alike. Recall is measured against float32 exact search.

    python tests/bench/kernel.py [--quick] [--output target/bench/kernel.json]

The vectors are made, with the mean and the spectrum of sentence embeddings of conversations (bge-small over LoCoMo: mean
of length .78, 60 effective dimensions); queries are noisy copies of rows. `usearch`, `hnswlib` and `faiss-cpu` are
optional: what is not installed is left out, and its targets are not judged.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread for everyone, set before the libraries read it.
for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from lightmem_server.core import (  # noqa: E402
    ALWAYS,
    NEVER,
    Engine,
    Rows,
    SearchFilter,
    SearchPlan,
    cpu_features,
)

DIM = 384
TOP = 10
Vectors = NDArray[np.float32]
Search = Callable[[Vectors], NDArray[np.int64]]
"""One query of (DIM,) to the row numbers of its TOP nearest."""


def make_vectors(count: int, *, seed: int) -> Vectors:
    """(count, DIM) float32 of unit length, distributed like sentence embeddings, most rows near another one."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0].astype(np.float32)
    # Cumulated, this follows the measured spectrum: 5 % for the first, halved at the twentieth, .03 % for the last.
    spectrum = (1 / (np.arange(DIM) + 8)).astype(np.float32)
    spectrum *= 0.4 / spectrum.sum()
    topics = rng.standard_normal((max(count // 25, 1), DIM), dtype=np.float32)
    vectors = np.empty((count, DIM), np.float32)
    for start in range(0, count, 50_000):
        part = slice(start, min(start + 50_000, count))
        n = part.stop - part.start
        mixed = 0.6 * topics[rng.integers(0, len(topics), n)] + 0.8 * rng.standard_normal((n, DIM), dtype=np.float32)
        vectors[part] = (mixed * np.sqrt(spectrum)) @ basis
    vectors += 0.775 * basis[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def make_queries(vectors: Vectors, count: int, *, seed: int) -> Vectors:
    """Questions about rows: a row with noise of the same spectrum, of a smaller common direction."""
    rng = np.random.default_rng(seed)
    rows = vectors[rng.integers(0, len(vectors), count)]
    queries = rows + 0.8 * make_vectors(count, seed=seed + 1) - 0.5 * vectors[:1000].mean(0)
    return np.ascontiguousarray(queries / np.linalg.norm(queries, axis=1, keepdims=True))


WORDS = 20_000


def make_texts(count: int, *, seed: int) -> list[str]:
    """Turns of 5 to 30 words of a Zipf distribution."""
    rng = np.random.default_rng(seed)
    weights = 1 / (np.arange(WORDS) + 3)
    lengths = rng.integers(5, 31, count)
    words = rng.choice(WORDS, int(lengths.sum()), p=weights / weights.sum())
    return [" ".join(f"w{word}x" for word in part) for part in np.split(words, np.cumsum(lengths)[:-1])]


def make_rows(vectors: NDArray[np.float32], texts: list[list[str]]) -> Rows:
    n = len(vectors)
    return Rows(
        ids=np.stack([np.arange(n), np.arange(n)], axis=1).view(np.uint8),
        vectors=np.ascontiguousarray(vectors),
        texts=texts,
        tiers=np.full(n, 2, np.uint8),
        kinds=np.ones(n, np.uint8),
        sessions=[f"s{i // 20}" for i in range(n)],
        agents=[""] * n,
        occurred_at=np.arange(n, dtype=np.int64),
        valid_from=np.full(n, ALWAYS),
        valid_to=np.full(n, NEVER),
        expires_at=np.full(n, NEVER),
        token_counts=np.full(n, 20, np.uint32),
        is_archived=np.zeros(n, np.bool_),
        is_pinned=np.zeros(n, np.bool_),
        in_ring=np.ones(n, np.bool_),
        metadata=[{}] * n,
        orders=np.arange(n, dtype=np.uint64),
    )


def dense_plan(query: Vectors, *, filter_: SearchFilter | None = None) -> SearchPlan:
    return SearchPlan(
        vectors=query.reshape(1, DIM),
        texts=(),
        vector_weights=(1.0,),
        text_weights=(),
        dense_weights=(1.0,),
        lexical_weights=(0.0,),
        list_depth=TOP,
        max_candidates=TOP,
        now=0,
        filter=filter_ or SearchFilter(),
    )


def make_engine(vectors: Vectors) -> Engine:
    engine = Engine(dim=DIM, budget_bytes=1 << 40, stm_turns=8, stm_tokens=1024, view_names=["turn"])
    engine.load("u", 1, make_rows(vectors[:, None], [[""]] * len(vectors)))
    return engine


def own_search(engine: Engine) -> Search:
    def search(query: Vectors) -> NDArray[np.int64]:
        found = engine.search("u", dense_plan(query))
        assert found is not None
        return found.ids.view(np.int64)[:, 0]

    return search


def numpy_search(vectors: Vectors) -> Search:
    def search(query: Vectors) -> NDArray[np.int64]:
        scores = vectors @ query
        best = np.argpartition(scores, -TOP)[-TOP:]
        return best[np.argsort(-scores[best])]

    return search


def usearch_exact(vectors: Vectors) -> Search:
    from usearch.index import search

    quantised = np.round(vectors * (127 / np.abs(vectors).max())).astype(np.int8)
    scale = 127 / np.abs(vectors).max()

    def run(query: Vectors) -> NDArray[np.int64]:
        q = np.clip(np.round(query * scale), -127, 127).astype(np.int8)
        return np.asarray(search(quantised, q, TOP, "cos", exact=True, threads=1).keys.astype(np.int64))

    return run


def usearch_hnsw(vectors: Vectors, expansion: int) -> Search:
    from usearch.index import Index

    index = Index(ndim=DIM, metric="ip", dtype="f32", expansion_add=128)
    index.add(np.arange(len(vectors)), vectors)

    def run(query: Vectors) -> NDArray[np.int64]:
        return np.asarray(index.search(query, TOP, threads=1).keys.astype(np.int64))

    def tuned(ef: int) -> None:
        index.expansion_search = ef  # type: ignore[misc]

    tune(run, tuned, vectors, expansion)
    return run


def hnswlib_search(vectors: Vectors, expansion: int) -> Search:
    import hnswlib  # type: ignore[import-untyped]

    index = hnswlib.Index(space="ip", dim=DIM)
    index.init_index(max_elements=len(vectors), ef_construction=128, M=16, random_seed=1)
    index.add_items(vectors, num_threads=os.cpu_count() or 1)
    index.set_num_threads(1)

    def run(query: Vectors) -> NDArray[np.int64]:
        return np.asarray(index.knn_query(query, k=TOP, num_threads=1)[0][0].astype(np.int64))

    tune(run, index.set_ef, vectors, expansion)
    return run


def tune(run: Search, set_expansion: Callable[[int], None], vectors: Vectors, expansion: int) -> None:
    """The smallest search expansion with recall .99 on other queries than those that are timed, from `expansion` on."""
    queries = make_queries(vectors, 200, seed=77)
    truth = exact(vectors, queries)
    while True:
        set_expansion(expansion)
        if recall([run(query) for query in queries], truth) >= 0.99 or expansion >= 2048:
            return
        expansion = int(expansion * 1.4)


def faiss_flat(vectors: Vectors) -> Search:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(DIM)
    index.add(vectors)
    return lambda query: np.asarray(index.search(query.reshape(1, DIM), TOP)[1][0])


def exact(vectors: Vectors, queries: Vectors) -> NDArray[np.int64]:
    """(q, TOP) nearest rows in float32."""
    best = []
    for query in queries:
        scores = vectors @ query
        rows = np.argpartition(scores, -TOP)[-TOP:]
        best.append(rows)
    return np.array(best)


def recall(found: list[NDArray[np.int64]], truth: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(f.tolist()) & set(t.tolist())) / TOP for f, t in zip(found, truth, strict=True)]))


def contenders(vectors: Vectors) -> dict[str, Search]:
    """Everyone who can answer, by name."""
    searches: dict[str, Search] = {"numpy float32": numpy_search(vectors)}
    n = len(vectors)
    if importlib.util.find_spec("usearch"):
        searches["usearch exact int8"] = usearch_exact(vectors)
        if n <= 10_000:  # building graphs of more takes minutes, and no target compares them
            searches["usearch hnsw"] = usearch_hnsw(vectors, 32)
    if importlib.util.find_spec("hnswlib") and n <= 10_000:
        searches["hnswlib"] = hnswlib_search(vectors, 16)
    if importlib.util.find_spec("faiss"):
        searches["faiss flat"] = faiss_flat(vectors)
        searches["faiss SQ8 direct"] = faiss_sq8(vectors)
    searches["lightmem"] = own_search(make_engine(vectors))
    return searches


def faiss_sq8(vectors: Vectors) -> Search:
    """SQ8 direct: bytes as they are, fed vectors scaled to -128 to 127."""
    import faiss

    faiss.omp_set_num_threads(1)
    scale = 127 / float(np.abs(vectors).max())
    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT)
    index.add(np.round(vectors * scale))
    return lambda query: np.asarray(index.search((query * scale).reshape(1, DIM), TOP)[1][0])


def take_turns(searches: dict[str, Callable[[int], Any]], rounds: int, queries: int) -> dict[str, list[float]]:
    """Seconds of each call, contender by contender in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(rounds):
        for name, search in searches.items():
            for i in range(queries):
                start = time.perf_counter()
                search(turn * queries + i)
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(base: list[float], own: list[float], rounds: int) -> float:
    """How many times faster `own` is than `base`: the median over the rounds of the ratio of their medians."""
    per = len(own) // rounds
    ratios = []
    for turn in range(rounds):
        part = slice(turn * per, (turn + 1) * per)
        ratios.append(statistics.median(base[part]) / statistics.median(own[part]))
    return statistics.median(ratios)


class Report:
    """Figures and targets on their way into the table and the file."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self.targets: dict[str, dict[str, Any]] = {}

    def figure(self, name: str, value: Any, unit: str = "") -> None:
        self.figures[name] = value
        shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        print(f"  {name:<48} {shown:>12} {unit}")

    def target(self, name: str, value: float, bar: float, *, at_most: bool = False) -> None:
        is_met = value <= bar if at_most else value >= bar
        self.targets[name] = {"value": value, "bar": bar, "ok": is_met}
        print(f"  {'ok  ' if is_met else 'MISS'} {name:<43} {value:>12.3f} {'<=' if at_most else '>='} {bar}")


def bench_partition(report: Report, count: int, rounds: int, queries: int) -> None:
    """One query over `count` rows: everyone's time and recall."""
    print(f"\n{count:,} rows x {DIM}, one query, one thread")
    vectors = make_vectors(count, seed=1)
    asked = make_queries(vectors, queries, seed=2)
    truth = exact(vectors, asked)
    searches = contenders(vectors)
    recalls = {name: recall([search(query) for query in asked], truth) for name, search in searches.items()}
    timed = {name: asking(search, asked) for name, search in searches.items()}
    timed["plain read"] = plain_read(count)
    seconds = take_turns(timed, rounds, queries)
    for name, recall_ in recalls.items():
        report.figure(f"{count}.{name}.p50_us", statistics.median(seconds[name]) * 1e6, f"us  recall@10 {recall_:.3f}")
        report.figures[f"{count}.{name}.recall"] = recall_
    report.target(f"{count}.recall@10", recalls["lightmem"], 0.99)
    own = seconds["lightmem"]
    if count >= 100_000:
        # The bytes that the scan must read, against the same bytes read by the fastest plain loop there is here.
        share = median_ratio(own, seconds["plain read"], rounds)
        report.target(f"{count}.share of plain read bandwidth", 1 / share, 0.7)
        for name, bar in [
            ("usearch exact int8", 4.0),
            ("numpy float32", 2.0),
            ("faiss flat", 2.0),
            ("faiss SQ8 direct", 1.0),
        ]:
            if name in seconds and count == 100_000:
                report.target(f"{count}.speedup over {name}", median_ratio(seconds[name], own, rounds), bar)
    else:
        rivals = [name for name, r in recalls.items() if r >= 0.99 and name != "lightmem"]
        best = min(rivals, key=lambda name: statistics.median(seconds[name]))
        report.figures[f"{count}.best rival"] = best
        report.target(f"{count}.speedup over best ({best})", median_ratio(seconds[best], own, rounds), 1.0)


def asking(search: Search, asked: Vectors) -> Callable[[int], Any]:
    """Ask the i-th question, starting over after the last."""
    return lambda i: search(asked[i % len(asked)])


def searching(engine: Engine, plans: list[SearchPlan]) -> Callable[[int], Any]:
    """Run the i-th plan, starting over after the last."""
    return lambda i: engine.search("u", plans[i % len(plans)])


def plain_read(count: int) -> Callable[[int], Any]:
    """Read as many bytes as the scan of one view does, and add them up as 64-bit words: NumPy's vectorised sum."""
    words = np.ones(count * DIM // 8, np.int64)
    return lambda _: words.sum()


def bench_filter(report: Report, count: int, rounds: int) -> None:
    """A narrow filter must cost less, not more."""
    print(f"\nfilters over {count:,} rows")
    engine = make_engine(make_vectors(count, seed=1))
    query = make_queries(make_vectors(1000, seed=1), 1, seed=3)[0]
    filters = {
        "no filter": SearchFilter(),
        "one session of 20 rows": SearchFilter(sessions=["s7"]),
        "a tenth of the time": SearchFilter(occurred_from=count // 2, occurred_to=count // 2 + count // 10),
        "scattered sessions": SearchFilter(sessions=[f"s{i}" for i in range(0, count // 20, 100)]),
    }
    plans = {name: dense_plan(query, filter_=filter_) for name, filter_ in filters.items()}
    seconds = take_turns({name: searching(engine, [plan]) for name, plan in plans.items()}, rounds, 20)
    for name in filters:
        report.figure(f"filter.{name}.p50_us", statistics.median(seconds[name]) * 1e6, "us")
    for name in list(filters)[1:]:
        report.target(f"filter.{name} speedup", median_ratio(seconds["no filter"], seconds[name], rounds), 1.0)


def make_user(count: int, *, seed: int) -> Rows:
    """A user's turns in two views: the turn, and the turn with the one before it."""
    turn = make_vectors(count, seed=seed)
    window = turn + 0.5 * np.roll(turn, 1, axis=0)
    window /= np.linalg.norm(window, axis=1, keepdims=True)
    texts = make_texts(count, seed=seed)
    windows = [f"{before} {text}" for before, text in zip(["", *texts], texts, strict=False)]
    return make_rows(np.stack([turn, window], axis=1), [list(pair) for pair in zip(texts, windows, strict=True)])


def hybrid_plans(rows: Rows, count: int) -> list[SearchPlan]:
    """Two query vectors and two texts of 4 and 10 words against two views, dense and lexical: eight lists."""
    asked = make_queries(np.ascontiguousarray(rows.vectors[:, 0]), 2 * count, seed=5)
    return [
        SearchPlan(
            vectors=asked[2 * i : 2 * i + 2],
            texts=[" ".join(rows.texts[i * 7][0].split()[:4]), " ".join(rows.texts[i * 7][1].split()[:10])],
            vector_weights=[1.0, 0.5],
            text_weights=[1.0, 0.5],
            dense_weights=[1.0, 1.0],
            lexical_weights=[1.0, 1.0],
            list_depth=64,
            max_candidates=32,
            now=0,
        )
        for i in range(count)
    ]


def bench_hybrid(report: Report, count: int, rounds: int, queries: int) -> None:
    print(f"\nhybrid search over {count:,} turns: 2 views, 2 query vectors, 2 texts, BM25")
    rows = make_user(count, seed=4)
    engine = Engine(dim=DIM, budget_bytes=1 << 40, stm_turns=8, stm_tokens=1024)
    engine.load("u", 1, rows)
    plans = hybrid_plans(rows, queries)
    seconds = sorted(take_turns({"hybrid": searching(engine, plans)}, rounds, queries)["hybrid"])
    report.figure("hybrid.p95_ms", seconds[int(len(seconds) * 0.95)] * 1e3, "ms")
    report.target("hybrid.p50_ms", statistics.median(seconds) * 1e3, 1.5, at_most=True)
    report.target("memory.bytes per turn", engine.stats().size_bytes / count, 3.2 * 1024, at_most=True)


def bench_threads(report: Report, count: int, seconds: float, rounds: int) -> None:
    """Eight Python threads on different users, against one thread."""
    print(f"\n8 threads on 8 users of {count:,} turns")
    engine = Engine(dim=DIM, budget_bytes=1 << 40, stm_turns=8, stm_tokens=1024)
    plans = {}
    for user in range(8):
        rows = make_user(count, seed=10 + user)
        engine.load(f"u{user}", 1, rows)
        plans[f"u{user}"] = hybrid_plans(rows, 20)

    def throughput(threads: int) -> float:
        done = [0] * threads
        end = time.perf_counter() + seconds

        def work(slot: int) -> None:
            i = 0
            while time.perf_counter() < end:
                user = f"u{(slot + i) % 8 if threads == 1 else slot}"
                engine.search(user, plans[user][i % 20])
                i += 1
            done[slot] = i

        pool = [threading.Thread(target=work, args=(slot,)) for slot in range(threads)]
        start = time.perf_counter()
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        return sum(done) / (time.perf_counter() - start)

    ratios = []
    for _ in range(rounds):
        one, eight = throughput(1), throughput(8)
        ratios.append(eight / one)
        report.figures["threads.searches_per_second"] = eight
    # The median: on a shared machine single ratios are far off both ways, even above the number of cores.
    report.target(f"threads.speedup of 8 on {os.cpu_count()} cores", statistics.median(ratios), 1.8)


def commit() -> str:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return git.stdout.strip()


def machine() -> str:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, kernels {', '.join(cpu_features())}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: checks that the bench works, judges nothing")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--only", nargs="*", default=["partition", "filter", "hybrid", "threads"])
    parser.add_argument("--output", type=Path, default=Path("target/bench/kernel.json"))
    args = parser.parse_args()
    report = Report()
    print(f"{machine()}; commit {commit()}")
    quick = args.quick
    rounds = 2 if quick else 15
    if "partition" in args.only:
        for count in [1_000] if quick else args.sizes:
            bench_partition(
                report, count, rounds if count < 1_000_000 else 5, 10 if quick else 100 if count < 100_000 else 20
            )
    if "filter" in args.only:
        bench_filter(report, 5_000 if quick else 100_000, rounds)
    if "hybrid" in args.only:
        bench_hybrid(report, 500 if quick else 10_000, rounds, 10 if quick else 100)
    if "threads" in args.only:
        bench_threads(report, 500 if quick else 10_000, 0.05 if quick else 0.5, 1 if quick else 15)
    settings = {"dim": DIM, "top": TOP, "rounds": rounds, "quick": quick, "only": args.only}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine(),
        "commit": commit(),
        "settings": settings,
        "figures": report.figures,
        "targets": report.targets,
    }
    args.output.write_text(json.dumps(content, indent=2) + "\n")
    missed = [name for name, target in report.targets.items() if not target["ok"]]
    print(f"\n{len(report.targets) - len(missed)} of {len(report.targets)} targets met; {args.output}")
    return 1 if missed and not quick else 0


if __name__ == "__main__":
    sys.exit(main())
