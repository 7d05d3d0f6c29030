"""The clients in other languages: each one's own tests, with its own tools, against one real server.

They play the contract vectors, call the whole API, and run the programs of their README. Where a tool is not installed, the
client is skipped by name. The first run downloads what the lock files pin; build caches are kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 900
"""For a first run, which downloads and compiles everything; a guard against hanging, not a measurement."""


@dataclass(frozen=True)
class Client:
    """A client and how it is tested: commands in its folder, and the programs that they need."""

    language: str
    commands: tuple[str, ...]
    programs: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


CLIENTS = (
    Client("go", ("go test -count=1 ./...",), ("go",)),
    Client("typescript", ("npm ci --no-audit --no-fund --loglevel=error", "npm test --silent"), ("node", "npm")),
)


def is_installed(package: Path) -> bool:
    """Whether npm has installed what the lock file pins."""
    installed, lock = package / "node_modules" / ".package-lock.json", package / "package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime


@pytest.mark.timeout(BUILD_SECONDS)
@pytest.mark.parametrize("client", CLIENTS, ids=[client.language for client in CLIENTS])
def test_client_passes_its_own_tests(server: ServerProcess, client: Client) -> None:
    missing = [program for program in client.programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"the {client.language} client, since {', '.join(missing)} is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "LIGHTMEM_API_KEY"}
    environment |= {"LIGHTMEM_TARGET": server.address, "LIGHTMEM_DATA_DIR": str(server.data_dir), **client.environment}
    for command in client.commands:
        if command.startswith("npm ci") and is_installed(ROOT / "clients" / client.language):
            continue
        run = subprocess.run(
            command.split(),
            cwd=ROOT / "clients" / client.language,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            pytest.fail(f"{command}: exit status {run.returncode}\n{run.stdout}", pytrace=False)
