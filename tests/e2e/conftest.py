"""One real server with the real models for the tests that leave it as they found it; others start their own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fault_record import FAULT, Injected
from tests.server_process import ServerProcess, require_models


@pytest.fixture(scope="session", autouse=True)
def models() -> None:
    """Skips, saying why, where the models have not been pulled."""
    require_models()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, models: None) -> Iterator[ServerProcess]:
    """A server that all tests share: each writes under users of its own."""
    with ServerProcess(Path(tmp_path_factory.mktemp("data"))) as process:
        yield process


@pytest.fixture
def inject(record_property: Callable[[str, object], None]) -> Iterator[Callable[[str], Injected]]:
    """Names a kind of fault that the test injects; what came of it stands in the test's report."""
    made: list[Injected] = []

    def name(fault: str) -> Injected:
        made.append(Injected(fault))
        return made[-1]

    yield name
    for one in made:
        record_property(FAULT, json.dumps(dataclasses.asdict(one.row)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own, where that may be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
