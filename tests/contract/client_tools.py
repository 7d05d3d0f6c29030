"""How the clients in other languages are built and tested: each with its own tools, in its own folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BUILD_SECONDS = 1800
"""For a first run, which downloads and compiles everything; a guard against hanging, not a measurement."""


@dataclass(frozen=True)
class Client:
    """A client and how it is tested.

    Attributes:
        prepare: What has to be done first, such as to install what the lock file pins.
        test: Its own tests, all of them.
        vectors: The contract vectors alone; empty for an example, which plays none.
        programs: What must be installed for it.
    """

    language: str
    test: str
    programs: tuple[str, ...]
    prepare: str = ""
    vectors: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, command: str, *, target: str, data_dir: Path, process_id: int | None = None) -> None:
        """Run a command in the client's folder, against a server. Skips by name where a program is missing.

        Args:
            process_id: The server's, for a test that looks at its memory.
        """
        missing = [program for program in self.programs if shutil.which(program) is None]
        if missing:
            pytest.skip(f"the {self.language} client, since {', '.join(missing)} is not installed")
        folder = ROOT / "clients" / self.language
        environment = {name: value for name, value in os.environ.items() if name != "LIGHTMEM_API_KEY"}
        environment |= {"LIGHTMEM_TARGET": target, "LIGHTMEM_DATA_DIR": str(data_dir), **self.environment}
        if process_id is not None:
            environment["LIGHTMEM_SERVER_PID"] = str(process_id)
        for step in (self.prepare if not is_installed(folder) else "", command):
            if not step:
                continue
            run = subprocess.run(
                step.split(),
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if run.returncode != 0:
                pytest.fail(f"{step}: exit status {run.returncode}\n{run.stdout}", pytrace=False)


def is_installed(package: Path) -> bool:
    """Whether npm has installed what the lock file pins."""
    installed, lock = package / "node_modules" / ".package-lock.json", package / "package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime


CLIENTS = (
    Client("go", "go test -count=1 ./...", ("go",), vectors="go test -count=1 -run TestContractVectors ."),
    Client(
        "typescript",
        "npm test --silent",
        ("node", "npm"),
        prepare="npm ci --no-audit --no-fund --loglevel=error",
        vectors="npm run vectors --silent",
    ),
    Client("java", "mvn --batch-mode --quiet --no-transfer-progress test", ("java", "mvn")),
    Client(
        "rust",
        "cargo test --quiet --locked",
        ("cargo",),
        environment={"CARGO_TARGET_DIR": str(ROOT / "target" / "clients-rust")},
    ),
)
