"""What was acknowledged is there after SIGKILL; a retry stores nothing twice; SIGTERM drains."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from lightmem_client import Client, Turn
from lightmem_client.errors import AlreadyExistsError

from tests.server_process import ServerProcess


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def connect(server: ServerProcess) -> Client:
    return Client(server.address, api_key=server.key, user_id="ana")


def test_an_acknowledged_turn_is_found_after_sigkill(data_dir: Path) -> None:
    with ServerProcess(data_dir) as server, connect(server) as client:
        (memory_id,) = client.write([Turn("I keep the spare key under the blue flowerpot.", speaker="Ana")]).memory_ids
        server.kill()
    with ServerProcess(data_dir) as server, connect(server) as client:
        found = client.retrieve("Where is the spare key?")
        assert [hit.memory.id for hit in found.memories] == [memory_id]
        assert client.get(memory_id).text == "I keep the spare key under the blue flowerpot."


def test_the_running_conversation_survives_sigkill(data_dir: Path) -> None:
    texts = ["We moved to Porto.", "The flat has a balcony.", "It looks at the river."]
    with ServerProcess(data_dir) as server, connect(server) as client:
        for text in texts:
            client.write([text], session_id="s")
        server.kill()
    with ServerProcess(data_dir) as server, connect(server) as client:
        assert [turn.text for turn in client.get_context(session_id="s")] == texts
        (fourth,) = client.write(["And at the bridge."], session_id="s").memory_ids
        third = client.get_context(session_id="s")[-2]
        assert client.get(fourth).previous_id == third.id


def test_a_retry_after_sigkill_stores_nothing_twice(data_dir: Path) -> None:
    with ServerProcess(data_dir) as server, connect(server) as client:
        first = client.write(["The boiler was serviced."], request_id="r1")
        server.kill()
    with ServerProcess(data_dir) as server, connect(server) as client:
        again = client.write(["The boiler was serviced."], request_id="r1")
        assert (again.memory_ids, again.is_replay) == (first.memory_ids, True)
        assert len(list(client.list())) == 1
        with pytest.raises(AlreadyExistsError):
            client.write(["Something else."], request_id="r1")


def test_sigterm_lets_a_call_end_and_then_exits_with_zero(data_dir: Path) -> None:
    with ServerProcess(data_dir) as server, connect(server) as client:
        client.write(["Bring the tent."])
        assert server.stop() == 0
    assert [entry["event"] for entry in server.log][-1] == "stopped"


def test_a_second_server_on_the_same_data_is_refused(data_dir: Path) -> None:
    with ServerProcess(data_dir), pytest.raises(RuntimeError, match="another"), ServerProcess(data_dir):
        pass


def test_a_server_on_a_taken_port_says_so(data_dir: Path, tmp_path: Path) -> None:
    with ServerProcess(data_dir) as server:
        other = ServerProcess(tmp_path / "other", "--listen", server.address)
        with pytest.raises(RuntimeError, match="is the port taken"), other:
            pass


def test_the_admin_key_is_readable_by_its_owner_alone(data_dir: Path) -> None:
    with ServerProcess(data_dir):
        assert (data_dir / "admin.key").stat().st_mode & 0o777 == 0o600
        assert data_dir.stat().st_mode & 0o077 == 0


def test_reflection_lists_the_services(data_dir: Path) -> None:
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with ServerProcess(data_dir) as server, grpc.insecure_channel(server.address) as channel:
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {"lightmem.v1.MemoryService", "lightmem.v1.AdminService", "grpc.health.v1.Health"} <= set(services)
