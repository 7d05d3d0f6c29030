"""How long a Retrieve takes: a real server process, open-loop arrivals, HDR histograms, every stage.

    python -m tests.bench.latency                             LoCoMo's turns where they are there, made ones otherwise
    python -m tests.bench.latency --parts deadline,off        some parts; each takes less than three minutes
    python -m tests.bench.latency --data LOCOMO.json          other data in LoCoMo's layout
    python -m tests.bench.latency --quick                     seconds; judges nothing

    part       what it asks                                                             the bar
    clients    1, 4 and 16 clients at stated rates; then 16 that never pause            p50, p95 of one client; throughput
    deadline   20, 50, 100, 200 ms asked: when the answer came, what was cut, how good  p99 <= asked + 15 ms
    scale      1k, 10k, 100k memories of one user, warm, in turns                       p50 at 100k <= 1.3x that at 1k
    cold       the first Retrieve of such users after a start of the server             none
    off        selector=OFF through gRPC beside tests/bench/plain_line.py, in turns     p50 no slower
               (a line with the same users, and one with the user alone that is asked;
               and what neither can do without: the embedding alone, an empty call)
    beside     one client while another user is consolidated, and alone, in turns       p95 <= 1.5x that alone

Latency is the client's, from the moment a call was to be sent to its whole answer parsed (load.py says why); the generator
runs on the same cores and is paid for in it. `throughput_of_selector` is the passages that the server judges per second for
16 clients which never pause, in mode FAST (`full_...`: FULL), with a deadline so long that nothing is cut, over what the
Selector alone judges per second in this process: the passages that the server has just judged, for the same queries, 16
callers in a closed loop, no store, no search, no embedding, no gRPC; in two rounds in turns, averaged. `..._on_the_rest` leaves
out the share of the cores that the generator itself took (`generator_cores`); the bar is without that. Users of `scale` and
`cold` are made: fill.py says how.

Writes target/bench/latency.json. Ends with 1 when a bar is missed, unless it was quick.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from lightmem_server.config import load
from tests.bench import latency_report, report
from tests.bench.datasets import Conversation, DataError, digest, read_locomo
from tests.bench.fill import make_conversation
from tests.bench.latency_parts import MEASURES
from tests.bench.latency_setting import QUICK, Bench, Sizes
from tests.bench.options import DEFAULT_DATA, ROOT, open_bars

RESULT_FILE = ROOT / "target" / "bench" / "latency.json"

WORDS_FILE = ROOT / "lightmem_server" / "cli" / "demo_conversation.jsonl"
"""Whose words the made conversations are of."""

MADE_TURNS = 600
MADE_QUESTIONS = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    options = _parse(arguments)
    try:
        conversations = _conversations(options)
    except (DataError, OSError) as error:
        print(f"the data cannot be read: {error}", file=sys.stderr)
        return 2
    sizes = QUICK if options.quick else Sizes()
    parts = list(options.parts)
    if "off" in parts and importlib.util.find_spec("sqlite_vec") is None:
        print("SKIPPED: off needs sqlite-vec, which `make bench-latency` installs", file=sys.stderr)
        parts.remove("off")

    figures: dict[str, Any] = {}
    with _folder() as folder, open_bars() as progress:
        settings = load({"data_dir": folder / "data"})
        bench = Bench(sizes, settings, options.seed, conversations, progress)
        for part in parts:
            figures[part] = MEASURES[part](bench)

    result: dict[str, Any] = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {
            "data": "made" if options.data is None else options.data.name,
            "data_sha256": None if options.data is None else digest(options.data),
            "seed": options.seed,
            "quick": options.quick,
            "parts": parts,
            "sizes": asdict(sizes),
        },
        "figures": figures,
        "targets": {} if options.quick else latency_report.targets(figures),
    }
    for path in (RESULT_FILE, options.json):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    latency_report.print_tables(Console(width=None if sys.stdout.isatty() else 160), result)
    return 0 if all(target["ok"] for target in result["targets"].values()) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="LoCoMo; default: where bench-quality looks, else made conversations")
    parser.add_argument("--made", action="store_true", help="made conversations, even where LoCoMo is")
    parser.add_argument(
        "--parts", type=_to_parts, default=list(MEASURES), help=f"some of {','.join(MEASURES)}; default: all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here too")
    parser.add_argument("--quick", action="store_true", help="seconds; judges nothing")
    parser.add_argument("--seed", type=int, default=0, help="of the arrivals and of what is made; default: 0")
    options = parser.parse_args(arguments)
    if options.made:
        options.data = None
    elif options.data is None and DEFAULT_DATA.exists():
        options.data = DEFAULT_DATA
    return options


def _to_parts(text: str) -> list[str]:
    parts = text.split(",")
    unknown = [part for part in parts if part not in MEASURES]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(unknown)}")
    return parts


def _conversations(options: argparse.Namespace) -> list[Conversation]:
    """The users: LoCoMo's first ones, or made ones; in a quick run short ones."""
    users = (QUICK if options.quick else Sizes()).users
    if options.data is not None:
        drawn = random.Random(options.seed)
        return [_shuffled(conversation, drawn) for conversation in read_locomo(options.data)[:users]]
    texts = [json.loads(line)["text"] for line in WORDS_FILE.read_text("utf-8").splitlines()]
    turns, questions = (QUICK.source_turns, 10) if options.quick else (MADE_TURNS, MADE_QUESTIONS)
    return [
        replace(
            make_conversation(texts, turns=turns, questions=questions, seed=options.seed + number),
            conversation_id=f"made-{number}",
        )
        for number in range(users)
    ]


def _shuffled(conversation: Conversation, drawn: random.Random) -> Conversation:
    """With its questions in another order: LoCoMo has them by category."""
    return replace(conversation, questions=tuple(drawn.sample(conversation.questions, len(conversation.questions))))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lightmem-bench-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
