"""Load on a server, as a scenario file tells it: who calls how often, with what, and what has to hold.

    python -m tests.bench.load --scenario tests/bench/scenarios/chat.toml     on a server of its own, with the real models
    python -m tests.bench.load --scenario FILE --target HOST:PORT --key KEY   on one that runs; --pid, if it runs here
    python -m tests.bench.load --scenario FILE --seconds 600                  longer than the file says

Open loop: calls come when the scenario says, however many are at work by then, and each one's time counts from the moment at
which it was to be sent: nothing is omitted because something else was slow. Beside it, every second: the server's memory and
processor time; every five: what GetStats says, which needs an admin key. What a scenario holds: tests/bench/load/scenario.py.

Writes target/bench/load-NAME.json, and .svg where matplotlib is there (`make bench-load` installs it). Ends with 0 when every
bar of the scenario is reached, with 1 when one is missed, with 2 when it could not be run. The load takes time of the same
processors unless the server is elsewhere; how late the generator was is among the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightmem_client import AsyncClient, LightMemError, RetryPolicy
from rich.console import Console

from lightmem_server.cli.options import CommandError
from lightmem_server.cli.process import RunningServer, clean_environment, running_server
from lightmem_server.config import load
from tests.bench import report as bench_report
from tests.bench.load import report
from tests.bench.load.generator import Generator
from tests.bench.load.measured import Measured
from tests.bench.load.payload import Said, make_payload
from tests.bench.load.progress import Progress
from tests.bench.load.scenario import Scenario, ScenarioError, plan, read_scenario
from tests.bench.load.watch import Watch
from tests.bench.options import ROOT, add_server

RESULT_FOLDER = ROOT / "target" / "bench"
NO_RETRY = RetryPolicy(max_attempts=1)
"""Refusals are to be counted, not hidden."""

READY_SECONDS = 60


def main(arguments: Sequence[str] | None = None, *, result_folder: Path = RESULT_FOLDER) -> int:
    """Run a scenario. Returns the exit code."""
    options = _parse(arguments)
    try:
        changes = {} if options.seconds is None else {"seconds": options.seconds}
        scenario = read_scenario(options.scenario, changes)
        said = make_payload(scenario)
    except ScenarioError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        with _server(options, scenario) as server:
            figures = asyncio.run(run(scenario, said, server))
    except (LightMemError, CommandError) as error:
        print(f"the scenario could not be run: {error}", file=sys.stderr)
        return 2
    result: dict[str, Any] = {
        "machine": bench_report.machine(),
        "commit": bench_report.commit(ROOT),
        "scenario": scenario.model_dump(mode="json"),
        "target": options.target,
        "figures": figures,
        "targets": report.targets(scenario.bars, figures),
    }
    path = result_folder / f"load-{scenario.name}.json"
    for file in (path, options.json):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    report.print_tables(Console(width=None if sys.stdout.isatty() else 120), result)
    if not report.plot(result, path.with_suffix(".svg")):
        print("SKIPPED: the plot needs matplotlib, which `make bench-load` installs", file=sys.stderr)
    return 0 if all(target["ok"] for target in result["targets"].values()) else 1


async def run(scenario: Scenario, said: Said, server: RunningServer) -> dict[str, Any]:
    """A scenario on a server that runs: the figures. `server.process_id` 0: it is not on this machine. Raises LightMemError."""
    progress = Progress(scenario)
    measured = Measured(scenario)
    timeout = scenario.timeout_seconds
    async with AsyncClient(server.target, api_key=server.key, retry=NO_RETRY, timeout_seconds=timeout) as client:
        await client.wait_ready(timeout_seconds=READY_SECONDS)
        generator = Generator(scenario, client, said, uuid.uuid4().hex[:8])
        with progress.telling() as told:
            await generator.tell(server.target, server.key, told)
        planned = plan(scenario)
        watch = Watch(client, server.process_id or None, measured)
        beside = [asyncio.create_task(watch.run()), asyncio.create_task(progress.follow(measured))]
        try:
            await generator.run(planned, measured)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
    if watch.stats_problem:
        print(f"without GetStats: {watch.stats_problem}", file=sys.stderr)
    return measured.figures()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", type=Path, required=True, metavar="FILE", help="see tests/bench/scenarios")
    parser.add_argument("--seconds", type=float, help="instead of what the scenario says")
    add_server(parser)
    parser.add_argument(
        "--pid", type=int, default=0, help="its process, if it is on this machine: memory and processor time"
    )
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _server(options: argparse.Namespace, scenario: Scenario) -> Iterator[RunningServer]:
    """The server that runs already, or one with the scenario's settings for as long as this lasts."""
    if options.target is not None:
        if scenario.server:
            print(f"left to the server that runs: the settings {', '.join(scenario.server)}", file=sys.stderr)
        yield RunningServer(options.target, options.key, options.pid)
        return
    settings = {"models_dir": load().models_dir, **scenario.server}
    flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", _to_flag(value))]
    with (
        tempfile.TemporaryDirectory(prefix="lightmem-load-") as folder,
        running_server(Path(folder) / "data", flags=flags, environment=clean_environment()) as server,
    ):
        yield server


def _to_flag(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
