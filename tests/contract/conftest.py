"""The stores that the contract suites run on, and the server that the vectors are played to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lightmem_server.store.protocol import Store
from lightmem_server.store.sqlite import SqliteStore
from tests.contract.store_records import MakeStore
from tests.server_process import ServerProcess, require_models


@pytest.fixture(params=["sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Makes stores, not opened, over the same data. A new engine joins with a parameter and a branch."""
    assert request.param == "sqlite"
    return lambda: SqliteStore(tmp_path / "data")


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    store = make_store()
    await store.open()
    yield store
    await store.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server with the real models for the clients of all languages."""
    require_models()
    with ServerProcess(Path(tmp_path_factory.mktemp("data"))) as process:
        yield process
