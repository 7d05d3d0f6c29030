"""A user over capacity: the least useful memories leave search and stay in the store; pinned ones never leave."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lightmem_client import Client, MemoryFilter, Turn

from tests.server_process import ENDED_SECONDS, ServerProcess

CAPACITY = 100
WRITTEN = 120
START = datetime(2024, 1, 1, tzinfo=UTC)


def test_over_capacity_the_oldest_unused_memories_leave_search(tmp_path: Path) -> None:
    turns = [
        Turn(f"Shelf {i} holds the blue folder {i}.", occurred_at=START + timedelta(days=i), is_pinned=i == 0)
        for i in range(WRITTEN)
    ]
    with (
        ServerProcess(tmp_path / "data", "--mtm-capacity", str(CAPACITY)) as server,
        Client(server.address, api_key=server.key, user_id="ana") as client,
    ):
        ids = client.write(turns, session_id="s").memory_ids
        ended_at = time.monotonic() + ENDED_SECONDS
        while sum(count.archived_count for count in client.stats(user_id="ana").counts) == 0:
            assert time.monotonic() < ended_at, "nothing was archived"
        (count,) = client.stats(user_id="ana").counts
        # A hundredth more leaves than must, so that the next turns fit without a new decision.
        assert (count.active_count, count.archived_count) == (CAPACITY - 1, WRITTEN - CAPACITY + 1)
        active = {memory.id for memory in client.list()}
        assert active == {ids[0], *ids[WRITTEN - CAPACITY + 2 :]}
        assert len(list(client.list(filter=MemoryFilter(include_archived=True)))) == WRITTEN
        gone = client.get(ids[5])
        assert gone.text == "Shelf 5 holds the blue folder 5."
        found = client.retrieve("Which folder does shelf 5 hold?", include_coarse=True)
        assert gone.id not in {hit.memory.id for hit in [*found.memories, *found.coarse]}
        assert {hit.memory.id for hit in found.memories} <= active
