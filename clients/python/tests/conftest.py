from __future__ import annotations

from collections.abc import Iterator

import pytest
from clients.python.tests.peer import KEY, Peer

from lightmem_client import Client, RetryPolicy

FAST = RetryPolicy(max_attempts=4, initial_seconds=0.01, max_seconds=0.05)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIGHTMEM_TARGET", "LIGHTMEM_API_KEY", "LIGHTMEM_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


@pytest.fixture
def client(peer: Peer) -> Iterator[Client]:
    with Client(peer.target, api_key=KEY, user_id="ann", timeout_seconds=10, retry=FAST) as client:
        yield client
