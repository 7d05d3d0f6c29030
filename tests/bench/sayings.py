"""What is known after somebody said something to their agent: made-up sentences, and pairs of which one changes the other.

    python -m tests.bench.sayings [--writer lite]
    python -m tests.bench.sayings --show            each that came out wrong, too

Each is said to a real server by a user of its own and consolidated. sayings.toml says what should hold then. It is no test: a
model, or other rules, may understand more or less. Writes target/bench/sayings.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lightmem_client import Client, Kind, Memory, MemoryFilter, Role, Turn
from rich.progress import Progress

from lightmem_server.cli.process import clean_environment, running_server
from lightmem_server.config import load
from tests.bench import report
from tests.bench.options import ROOT, open_bars

FILE = Path(__file__).with_suffix(".toml")
RESULT_FILE = ROOT / "target" / "bench" / "sayings.json"
SPEAKER = "Rosa"
BETWEEN, AGO, AHEAD = timedelta(days=20), timedelta(days=36), timedelta(days=120)
QUICK = 2
"""Of each kind."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--writer", choices=("standard", "small", "lite"), default="lite")
    parser.add_argument("--show", action="store_true", help="print what came out wrong")
    parser.add_argument("--quick", action="store_true", help="seconds; a few of each kind")
    options = parser.parse_args(arguments)
    data = tomllib.loads(FILE.read_text("utf-8"))
    data["tells"] = [{"said": [line]} for line in data["tells"]]
    if options.quick:
        data = {kind: cases[:QUICK] for kind, cases in data.items()}
    flags = ("--writer", options.writer, "--models-dir", str(load().models_dir))
    with (
        tempfile.TemporaryDirectory(prefix="lightmem-bench-") as folder,
        running_server(Path(folder) / "data", flags=flags, environment=clean_environment()) as server,
        Client(server.target, api_key=server.key, timeout_seconds=600) as client,
        open_bars() as bars,
    ):
        wrong = _run(client, data, bars)
    figures = {
        name: {"right": sum(case not in wrong for case in cases), "of": len(cases)}
        for name, cases in _groups(data).items()
    }
    result = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": {"writer": options.writer, "quick": options.quick},
        "figures": figures,
        "targets": {},
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    for name, made in figures.items():
        print(f"{name:16} {made['right']} of {made['of']}")
    if options.show:
        for case in wrong:
            print("wrong:", " | ".join(case["said"]), "->", case["facts"])
    return 0


def is_right(kind: str, case: dict[str, Any], facts: Sequence[Memory]) -> bool:
    """Whether what is known is as the case says.

    Args:
        kind: Of the file: holds, none, stays or tells.
        facts: Those that hold now.
    """
    if kind == "tells":
        return bool(facts)
    own = [
        fact.statement.object.lower()
        for fact in facts
        if fact.statement and (fact.statement.relation, fact.statement.subject) == (case["relation"], SPEAKER)
    ]
    if "now" not in case:
        return not own
    is_known = any(case["now"] in said for said in own)
    return is_known and (kind == "stays" or len(own) == 1 or len(case["said"]) == 1)


def _run(client: Client, data: dict[str, list[dict[str, Any]]], bars: Progress) -> list[dict[str, Any]]:
    """The cases that came out wrong, each with the facts that there are."""
    task = bars.add_task("sayings", total=sum(map(len, data.values())))
    began, wrong = datetime.now(UTC) - AGO, []
    to_come = f"{began + AHEAD:%B}"
    for kind, cases in data.items():
        for number, case in enumerate(cases):
            user_id = f"{kind}-{number}"
            for place, line in enumerate(case["said"]):
                at = began + place * BETWEEN
                asked = Turn("Hello! Anything new?", "Assistant", Role.ASSISTANT, at - timedelta(minutes=1))
                answer = Turn(line.replace("March", to_come), SPEAKER, Role.USER, at)
                client.write([asked, answer], user_id=user_id, session_id=str(place))
            for _ in client.consolidate(user_id=user_id):
                pass
            # As of now: a plan that is to come has begun when it was made.
            facts = list(client.list(user_id=user_id, filter=MemoryFilter(kinds=[Kind.FACT], as_of=datetime.now(UTC))))
            if not is_right(kind, case, facts):
                case["facts"] = [fact.text for fact in facts]
                wrong.append(case)
            bars.advance(task)
    return wrong


def _groups(data: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The kinds, what should hold parted by whether the rules were written with it."""
    return {
        "holds, seen": [case for case in data["holds"] if case["seen"]],
        "holds, unseen": [case for case in data["holds"] if not case["seen"]],
        **{kind: data[kind] for kind in ("none", "stays", "tells")},
    }


if __name__ == "__main__":
    sys.exit(main())
