from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import grpc
import pytest
from click.testing import Result
from lightmem_client.pb import memory_pb2

from clients.python.tests.peer import Failure, Peer
from lightmem_server.cli.options import ExitCode

Run = Callable[..., Result]


def jsonl(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def test_text_is_stored_and_its_id_printed(run: Run, peer: Peer) -> None:
    result = run("add", "I moved to Rome", "-u", "ann", "-s", "s1", "--speaker", "Ann", "--role", "assistant")
    assert result.exit_code == 0
    (memory,) = peer.memories["ann"]
    assert result.stdout == f"{memory.id}\n"
    assert (memory.text, memory.speaker, memory.scope.session_id) == ("I moved to Rome", "Ann", "s1")
    assert memory.role == memory_pb2.ROLE_ASSISTANT


def test_json_has_the_whole_acknowledgement(run: Run, peer: Peer) -> None:
    printed = json.loads(run("add", "x", "-u", "ann", "--json").stdout)
    assert printed["memory_ids"] == [peer.memories["ann"][0].id]
    assert printed["is_replay"] is False


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("2024-05-08T13:56:00Z", 1715176560), ("2024-05-08T13:56:00+02:00", 1715169360)],
)
def test_time_is_kept(run: Run, peer: Peer, given: str, seconds: int) -> None:
    run("add", "x", "-u", "ann", "--at", given)
    assert peer.memories["ann"][0].occurred_at.seconds == seconds


def test_time_without_zone_is_local(run: Run, peer: Peer) -> None:
    run("add", "x", "-u", "ann", "--at", "2024-05-08 13:56")
    local = datetime(2024, 5, 8, 13, 56).astimezone()
    assert peer.memories["ann"][0].occurred_at.seconds == int(local.timestamp())


def test_lines_of_standard_input_are_stored_in_order(run: Run, peer: Peer) -> None:
    lines = jsonl(
        {"text": "one", "session_id": "s1", "speaker": "Ann", "metadata": {"k": 1}},
        {"text": "two", "session_id": "s1", "occurred_at": "2024-05-08T13:56:00Z", "role": "tool"},
        {"text": "three", "session_id": "s2"},
        {"text": "four"},
    )
    result = run("add", "-u", "ann", "-s", "else", "--speaker", "Bob", input=lines + "\n")
    assert (result.exit_code, result.stdout) == (0, "4 turns stored\n")
    memories = peer.memories["ann"]
    assert [memory.text for memory in memories] == ["one", "two", "three", "four"]
    assert [memory.scope.session_id for memory in memories] == ["s1", "s1", "s2", "else"]
    assert [memory.speaker for memory in memories] == ["Ann", "Bob", "Bob", "Bob"]
    assert memories[0].metadata["k"].int_value == 1
    assert memories[1].role == memory_pb2.ROLE_TOOL


def test_file_is_read(run: Run, peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text(jsonl(*({"text": f"turn {number}"} for number in range(200))), "utf-8")
    result = run("add", "-u", "ann", "--file", str(path), "--json")
    assert json.loads(result.stdout) == {"stored": 200}
    assert peer.texts("ann") == [f"turn {number}" for number in range(200)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2"),
        ('["text"]', "line 2: is not an object"),
        ('{"speaker": "Ann"}', "line 2: has no text"),
        ('{"text": 5}', "line 2: text is not text"),
        ('{"text": "x", "when": "now"}', "line 2: has unknown fields: when"),
        ('{"text": "x", "role": "king"}', "line 2: role is not one of"),
        ('{"text": "x", "metadata": 5}', "line 2: metadata is not an object"),
        ('{"text": "x", "occurred_at": "yesterday"}', "line 2: Invalid isoformat"),
    ],
)
def test_line_that_is_no_turn_is_named(run: Run, peer: Peer, line: str, message: str) -> None:
    result = run("add", "-u", "ann", input=jsonl({"text": "first"}) + line + "\n")
    assert result.exit_code == ExitCode.USAGE
    assert message in result.stderr
    assert peer.texts("ann") == ["first"]


def test_line_that_the_server_refuses_is_named(run: Run, peer: Peer) -> None:
    lines = jsonl({"text": "first"}, {"text": " "}, {"text": "third"})
    result = run("add", "-u", "ann", input=lines)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith("Error: line 2: the peer says REQUIRED; the lines before it are stored")
    assert peer.texts("ann") == ["first"]


def test_time_without_zone_in_a_file_is_refused(run: Run) -> None:
    result = run("add", "-u", "ann", input=jsonl({"text": "x", "occurred_at": "2024-05-08T13:56"}))
    assert result.exit_code == ExitCode.USAGE
    assert "has no time zone" in result.stderr


def test_connection_that_breaks_midway_stores_every_line_once(run: Run, peer: Peer) -> None:
    peer.fail("Write", Failure(grpc.StatusCode.UNAVAILABLE, is_late=True))
    result = run("add", "-u", "ann", input=jsonl(*({"text": str(number)} for number in range(30))))
    assert result.exit_code == 0
    assert peer.texts("ann") == [str(number) for number in range(30)]


def test_text_and_file_together_are_a_usage_error(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    path.touch()
    assert run("add", "x", "-u", "ann", "--file", str(path)).exit_code == ExitCode.USAGE


def test_user_is_required(run: Run) -> None:
    assert run("add", "x").exit_code == ExitCode.USAGE


def test_lost_server_is_not_blamed_on_a_line(run: Run, peer: Peer) -> None:
    peer.fail("Write", Failure(grpc.StatusCode.UNAUTHENTICATED, "KEY_INVALID"))
    result = run("add", "-u", "ann", input=jsonl({"text": "first"}))
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stderr == "Error: the peer says KEY_INVALID\n"
