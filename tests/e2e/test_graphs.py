"""A partition above `ann_rows`, through a real server."""

from __future__ import annotations

import time
from pathlib import Path

from lightmem_client import Client, Turn

from tests.server_process import ENDED_SECONDS, ServerProcess


def test_a_large_partition_gets_its_graph_and_the_trace_says_so(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path / "data", "--ann-rows", "64") as server,
        Client(server.address, api_key=server.key, user_id="large") as client,
    ):
        client.write([Turn(f"Shelf {i} holds jar {i * 7}.") for i in range(100)], session_id="s")
        client.write([Turn("Grandfather's telescope stands in the attic.")], session_id="s")
        give_up = time.monotonic() + ENDED_SECONDS
        while not (found := client.retrieve("Where is the telescope?")).trace.is_approximate:
            assert time.monotonic() < give_up, "no graph was built"
        assert found.memories[0].memory.text == "Grandfather's telescope stands in the attic."
