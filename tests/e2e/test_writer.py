"""A server with a Writer: the smallest, which is enough to see that its guesses are searched for."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightmem_client import Client, Turn

from lightmem_server.config import load
from lightmem_server.slm.models import ModelState, list_models
from tests.server_process import ServerProcess

WRITER = "smollm2-135m-instruct"


def test_hypothetical_queries_are_written_and_searched_for(tmp_path: Path) -> None:
    directory = load().models_dir
    if {status.name: status.state for status in list_models(directory)}[WRITER] is not ModelState.INSTALLED:
        pytest.skip(f"{WRITER} is not in {directory}; run `make test-models`")
    with (
        ServerProcess(tmp_path, "--writer", WRITER) as server,
        Client(server.address, api_key=server.key, timeout_seconds=60) as client,
    ):
        client.write([Turn("I moved to Lisbon in May.", "Ana")], user_id="ana", session_id="s")
        answer = client.retrieve("Where does Ana live?", user_id="ana", hypothetical_queries=2, deadline_seconds=10)
        assert [hit.memory.text for hit in answer.memories] == ["I moved to Lisbon in May."]
        assert "hypothetical" in [stage.name for stage in answer.trace.stages]
        assert 1 < len(answer.trace.plan.query_views) <= 3
        assert [model.role for model in client.stats().models] == ["embedder", "selector", "writer"]
