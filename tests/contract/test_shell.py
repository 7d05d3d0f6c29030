"""What clients/README.md says to do from a shell, done: grpcurl, ghz and k6 by reflection."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.contract.client_tools import BUILD_SECONDS, ROOT
from tests.server_process import ServerProcess

README = (ROOT / "clients" / "README.md").read_text("utf-8")
TOOLS = ROOT / "target" / "tools"


@pytest.fixture(scope="module")
def grpcurl() -> Path:
    """The grpcurl that the README names, built once."""
    if shutil.which("go") is None:
        pytest.skip("grpcurl, since go is not installed")
    module = re.search(r"github\.com/fullstorydev/grpcurl/cmd/grpcurl@v([\d.]+)", README)
    assert module is not None
    folder = TOOLS / f"grpcurl-{module[1]}"
    if not (folder / "grpcurl").exists():
        subprocess.run(["go", "install", module[0]], check=True, env={**os.environ, "GOBIN": str(folder)})
    return folder


def find_tool(name: str) -> str:
    """The folder of a tool of the README, on the path or where Go leaves it. Skips by name where it is not installed."""
    folders = [os.environ["PATH"], str(TOOLS), os.environ.get("GOBIN", "")]
    if shutil.which("go") is not None:
        told = subprocess.run(["go", "env", "GOBIN", "GOPATH"], capture_output=True, text=True, check=True)
        gobin, gopath = told.stdout.splitlines()
        folders += [gobin, *(f"{folder}/bin" for folder in gopath.split(os.pathsep))]
    found = shutil.which(name, path=os.pathsep.join(folder for folder in folders if folder))
    if found is None:
        pytest.skip(f"{name}, since it is not installed")
    return str(Path(found).parent)


def run_recipe(server: ServerProcess, tool: str, changes: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run what the README says of a tool, with some of its numbers changed, from the repository's root."""
    script = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if block.startswith(tool))
    for old, new in changes.items():
        assert old in script
        script = script.replace(old, new)
    environment = {
        **os.environ,
        "PATH": f"{find_tool(tool)}:{os.environ['PATH']}",
        "LIGHTMEM_TARGET": server.address,
        "LIGHTMEM_API_KEY": server.key,
    }
    return subprocess.run(
        ["bash", "-euc", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_ghz_drives_write_streams_and_retrieve(server: ServerProcess) -> None:
    run = run_recipe(server, "ghz", {"--total 20": "--total 4", "--rps 5 --total 100": "--rps 5 --total 10"})
    assert run.returncode == 0, run.stderr
    assert re.findall(r"\[(\w+)\]\s+(\d+) responses", run.stdout) == [("OK", "4"), ("OK", "10")]


def test_k6_asks_at_a_rate_and_fails_when_a_threshold_is_missed(server: ServerProcess) -> None:
    run = run_recipe(server, "k6", {"DURATION=20s": "DURATION=2s -e P95_MS=60000"})
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.findall(r"retrieve_answered\.*: (\d+)", run.stdout)[0]) >= 10
    run = run_recipe(server, "k6", {"DURATION=20s": "DURATION=1s -e P95_MS=0"})
    assert run.returncode != 0
    assert "retrieve_duration" in run.stderr


@pytest.mark.timeout(BUILD_SECONDS)
def test_grpcurl_lists_describes_and_calls(server: ServerProcess, grpcurl: Path) -> None:
    script = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "grpcurl" in block)
    environment = {
        **os.environ,
        "PATH": f"{grpcurl}:{os.environ['PATH']}",
        "LIGHTMEM_TARGET": server.address,
        "LIGHTMEM_API_KEY": server.key,
    }
    run = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    promised = re.findall(r"# prints: (.*)", script)
    for expected in ("lightmem.v1.AdminService", "rpc Write ( stream .lightmem.v1.WriteRequest )", *promised):
        assert expected in run.stdout
    assert promised
