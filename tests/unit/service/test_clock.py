"""A clock that is set back, and forward, under a running server: order, replays, keys and jobs don't hang on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightmem_client import Client, Kind, MemoryFilter

from tests.live_server import LiveServer

HOUR_MICROS = 3_600_000_000
TURNS = MemoryFilter(kinds=[Kind.TURN])
FIRST, SECOND, THIRD = "I live in Porto.", "My sister is called Rita.", "I work as a nurse."


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_clock_that_jumps_loses_nothing_and_keeps_the_order(tmp_path: Path, hours: int) -> None:
    with LiveServer(tmp_path) as live, Client(live.address, api_key=live.key, user_id="ann") as client:
        client.write([FIRST, SECOND], session_id="s", request_id="r1")
        key = client.create_key()
        live.ahead_micros = hours * HOUR_MICROS
        (third,) = client.write(THIRD, session_id="s", request_id="r2").memory_ids
        assert [turn.text for turn in client.get_context(session_id="s")] == [FIRST, SECOND, THIRD]
        assert [memory.text for memory in client.list(filter=TURNS)] == [THIRD, SECOND, FIRST]
        assert third in [hit.memory.id for hit in client.retrieve("nurse").memories]
        assert client.write(THIRD, session_id="s", request_id="r2").is_replay
        assert list(client.consolidate(timeout_seconds=30))[-1].stage == "done"
        with Client(live.address, api_key=key.secret, user_id="ann") as other:
            assert len(list(other.list(filter=TURNS))) == 3
        live.ahead_micros = 0
        client.write("I like olives.", session_id="s")
        assert list(client.consolidate(timeout_seconds=30))[-1].stage == "done"
        assert list(client.backup())[-1].stage == "done"
        assert client.erase_user("ann").memory_count > 4
        assert list(client.list()) == []
