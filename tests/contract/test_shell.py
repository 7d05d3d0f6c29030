"""What clients/README.md says to do from a shell, done: grpcurl by reflection."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
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
