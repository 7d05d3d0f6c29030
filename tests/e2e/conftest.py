"""One real server with the real models for the tests that leave it as they found it; others start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
