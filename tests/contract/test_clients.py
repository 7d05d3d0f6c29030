"""The clients in other languages: each one's own tests, with its own tools, against one real server.

They play the contract vectors, call the whole API, and run the programs of their README. Where a tool is not installed, the
client is skipped by name. The first run downloads what the lock files pin; build caches are kept.
"""

from __future__ import annotations

import pytest

from tests.contract.client_tools import BUILD_SECONDS, CLIENTS, Client
from tests.server_process import ServerProcess


@pytest.mark.timeout(BUILD_SECONDS)
@pytest.mark.parametrize("client", CLIENTS, ids=[client.language for client in CLIENTS])
def test_client_passes_its_own_tests(server: ServerProcess, client: Client) -> None:
    client.run(client.test, target=server.address, data_dir=server.data_dir, process_id=server.process.pid)
