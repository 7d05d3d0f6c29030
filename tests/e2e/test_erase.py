"""Erasing a user of a real server: no byte is left in any file of its folder nor in its log, whatever goes on beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightmem_client import Client, Turn
from lightmem_client.errors import AbortedError

from tests.server_process import ServerProcess

SECRET = "Zanzibar4711"
WORDS = (
    f"My name is {SECRET} and I live in {SECRET}.",
    f"My favourite dish is {SECRET} soup.",
    f"I work as a {SECRET} painter since last May.",
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def connect(server: ServerProcess) -> Client:
    return Client(server.address, api_key=server.key, user_id="ana")


def traces(folder: Path) -> list[str]:
    secret = SECRET.lower().encode()
    return sorted(str(file) for file in folder.rglob("*") if file.is_file() and secret in file.read_bytes().lower())


def plant(client: Client, user_id: str) -> list[str]:
    """The secret in every field that a client fills, with changes, an archive of requests, and enough for a snapshot."""
    ids: list[str] = []
    for number in range(3):
        turns = [Turn(f"{WORDS[place % 3]} {place}", speaker=SECRET, metadata={SECRET: SECRET}) for place in range(100)]
        ids += client.write(
            turns, user_id=user_id, session_id=f"{SECRET} {number}", agent_id=SECRET, request_id=f"{SECRET} {number}"
        ).memory_ids
    for memory_id in ids[:5]:
        client.update(memory_id, user_id=user_id, metadata={"word": SECRET + "x" * 900})
    client.delete(ids[7], user_id=user_id)
    return ids


def consolidate(client: Client, user_id: str) -> None:
    for _ in client.consolidate(user_id=user_id, timeout_seconds=100):
        pass


@pytest.fixture
def server(data_dir: Path) -> Iterator[ServerProcess]:
    with ServerProcess(data_dir, "--log-level", "debug") as process:
        yield process


def test_nothing_of_an_erased_user_is_in_any_file_or_in_the_log(server: ServerProcess, data_dir: Path) -> None:
    with connect(server) as client:
        client.write([Turn(f"I know nobody of that name, {number}.") for number in range(100)], user_id="bo")
        plant(client, "ana")
        consolidate(client, "ana")
        made = {memory.kind.name for memory in client.list(user_id="ana")}
        assert {"TURN", "SUMMARY"} <= made
        client.retrieve(f"Where does {SECRET} live?", user_id="ana")
        plant(client, SECRET)  # the user id, too
        assert traces(data_dir)
        erased = client.erase_user("ana")
        assert erased.memory_count >= 299
        client.erase_user(SECRET)
        assert traces(data_dir) == []
        assert list(client.list(user_id="ana")) == []
        assert len(list(client.list(user_id="bo"))) == 100
        assert client.erase_user("ana").memory_count == 0
    assert server.stop() == 0
    assert traces(data_dir) == []
    assert SECRET.lower() not in str(server.log).lower()


def test_what_was_acknowledged_as_erased_stays_so_after_sigkill(data_dir: Path) -> None:
    with ServerProcess(data_dir) as server, connect(server) as client:
        plant(client, "ana")
        erased = client.erase_user("ana")
        server.kill()
        assert erased.memory_count == 299
        assert traces(data_dir) == []
    with ServerProcess(data_dir) as server, connect(server) as client:
        assert list(client.list()) == []
        assert client.retrieve("Who lives there?").memories == ()
        with pytest.raises(AbortedError):
            client.write([Turn("Once more.")], request_id=f"{SECRET} 0")
        assert traces(data_dir) == [], "a refused request leaves nothing either"
        client.write(["I am new here."])
        assert [memory.text for memory in client.list()] == ["I am new here."]


def test_writers_go_on_beside_an_erasure(server: ServerProcess, data_dir: Path) -> None:
    """Of the same user and of others. What was stored after the erasure is the only thing that is there."""
    stop = threading.Event()
    acknowledged: dict[str, set[str]] = {"ana": set(), "bo": set(), "cy": set()}
    refused: set[str] = set()

    def keep_writing(user_id: str) -> None:
        with connect(server) as client:
            number = 0
            while not stop.is_set():
                number += 1
                text = f"I said {SECRET}" if user_id == "ana" else "I said nothing"
                try:
                    acknowledged[user_id] |= set(
                        client.write([f"{text} {number}"], user_id=user_id, session_id=user_id).memory_ids
                    )
                except AbortedError as error:
                    refused.add(error.reason)

    threads = [threading.Thread(target=keep_writing, args=(user_id,)) for user_id in acknowledged]
    with connect(server) as client:
        for thread in threads:
            thread.start()
        for _ in range(5):
            while not list(client.list(user_id="ana")):
                pass
            assert client.erase_user("ana").memory_count > 0
        stop.set()
        for thread in threads:
            thread.join()
        assert refused <= {"USER_ERASED"}
        assert {memory.id for memory in client.list(user_id="ana")} <= acknowledged["ana"]
        for user_id in ("bo", "cy"):
            assert {memory.id for memory in client.list(user_id=user_id)} == acknowledged[user_id]
        client.erase_user("ana")
        assert traces(data_dir) == []
