"""The load harness on a real server, a few seconds each; not how fast anything is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from lightmem_server.cli.process import RunningServer
from tests.bench.load.__main__ import main, run
from tests.bench.load.payload import make_payload
from tests.bench.load.scenario import Scenario
from tests.server_process import ServerProcess

pytestmark = pytest.mark.models

SCENARIO = """
seconds = 3
warm_up_seconds = 1
users = 3
turns_per_second = 5
retrieves_per_second = 5
[payload]
told_turns = 4
[bars]
retrieve = { ok_share = 1.0 }
write = { ok_share = 1.0 }
rss_mib = 65536.0
"""


def test_a_scenario_runs_on_a_server_that_is_pointed_at(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO, "utf-8")
    arguments = ["--scenario", str(path), "--target", server.address, "--key", server.key]
    arguments += ["--pid", str(server.process.pid)]
    assert main(arguments, result_folder=tmp_path / "target") == 0
    result = json.loads((tmp_path / "target" / "load-small.json").read_text("utf-8"))
    figures = result["figures"]
    for kind in ("retrieve", "write"):
        made = figures["calls"][kind]
        assert set(made["statuses"]) == {"OK"}
        assert made["answered"]["count"] == made["sent"] == sum(bin_["ok"] for bin_ in figures["course"][kind]) > 0
        assert made["answered"]["p50_ms"] > 0
    assert figures["server"]["rss_mib_most"] > 1
    assert figures["server"]["store_mib_most"] > 0
    assert len(figures["samples"]) >= 4
    assert all(target["ok"] for target in result["targets"].values())
    assert "retrieve ok_share: 1.0, bar 1: reached" in capsys.readouterr().out


def test_a_missed_bar_ends_with_1_on_a_server_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fast.toml"
    path.write_text(SCENARIO.replace("ok_share = 1.0 }\nwrite", "p50_ms = 0.001 }\nwrite"), "utf-8")
    path.write_text(path.read_text("utf-8") + "[server]\nmax_working_requests = 3\n", "utf-8")
    assert main(["--scenario", str(path), "--seconds", "1"], result_folder=tmp_path) == 1
    assert "bar 0.001: MISSED" in capsys.readouterr().out
    assert json.loads((tmp_path / "load-fast.json").read_text("utf-8"))["scenario"]["seconds"] == 1


def test_what_cannot_be_run_ends_with_2(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO + "[more]\n", "utf-8")
    assert main(["--scenario", str(path)], result_folder=tmp_path) == 2
    assert "more: Extra inputs" in capsys.readouterr().err
    path.write_text(SCENARIO, "utf-8")
    assert main(["--scenario", str(path), "--target", server.address, "--key", "lm_x"], result_folder=tmp_path) == 2
    assert "could not be run" in capsys.readouterr().err


def test_a_server_that_stalls_is_charged_for_all_who_would_have_called_meanwhile(tmp_path: Path) -> None:
    """Coordinated omission: a server stopped for a second has kept twenty calls waiting, not the one that was at work."""
    scenario = Scenario.model_validate(
        {
            "name": "stalled",
            "users": 1,
            "turns_per_second": 20,
            "retrieves_per_second": 0,
            "seconds": 3,
            "warm_up_seconds": 1,
            "arrivals": {"process": "constant"},
            "payload": {"told_turns": 1},
        }
    )
    with ServerProcess(tmp_path / "data") as process:

        async def stalled() -> dict[str, object]:
            async def stall() -> None:
                writes = 0
                while writes < 30:  # well within what is counted
                    await asyncio.sleep(0.01)
                    writes = sum(entry.get("method") == "MemoryService/Write" for entry in process.log)
                os.kill(process.process.pid, signal.SIGSTOP)
                threading.Timer(1.0, os.kill, (process.process.pid, signal.SIGCONT)).start()

            stalling = asyncio.create_task(stall())
            server = RunningServer(process.address, process.key, process.process.pid)
            figures = await run(scenario, make_payload(scenario), server)
            await stalling
            return figures

        figures = asyncio.run(stalled())
    write = figures["calls"]["write"]  # type: ignore[index]
    assert write["statuses"] == {"OK": 60}
    assert write["answered"]["max_ms"] >= 900
    # Of 60 calls the 20 of that second waited half of it on average; measured one after the other, one would have.
    assert write["answered"]["p95_ms"] >= 700
