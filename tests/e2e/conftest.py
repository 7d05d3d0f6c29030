"""One real server with the real models for the tests that leave it as they found it; others start their own."""

from __future__ import annotations

import dataclasses
import json
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
