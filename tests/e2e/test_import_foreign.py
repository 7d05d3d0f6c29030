"""`lightmem import --from` against a real server: what others exported is found, once, however often it is sent."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from lightmem_client import Client

from lightmem_server.cli import cli
from tests.server_process import ServerProcess
from tests.unit.cli.test_foreign import CONVERSATION

pytestmark = pytest.mark.models


def run(server: ServerProcess, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["import", *arguments, "--target", server.address, "--key", server.key])


def test_a_conversation_is_found_once_however_often_it_comes(server: ServerProcess, tmp_path: Path) -> None:
    user, path = f"import-{uuid.uuid4().hex[:8]}", tmp_path / "conversations.json"
    path.write_text(json.dumps([CONVERSATION]))
    dry = run(server, user, str(path), "--from", "chatgpt", "--dry-run")
    assert (dry.exit_code, dry.stdout.splitlines()[0]) == (0, "2 turns in 1 conversations; nothing stored: a dry run")
    with Client(server.address, api_key=server.key, user_id=user) as memory:
        assert list(memory.list()) == []
        first = run(server, user, str(path), "--from", "chatgpt")
        assert first.exit_code == 0, first.output
        assert "2 stored, 0 were there" in first.stdout
        assert "1 left out: without text" in first.stdout
        again = run(server, user, str(path), "--from", "chatgpt", "--json")
        assert json.loads(again.stdout)["were_there"] == 2
        newest, oldest = memory.list()
        assert (oldest.text, oldest.session_id, oldest.metadata) == (
            "I moved to Lisbon.",
            "chatgpt-c1",
            {"source": "chatgpt"},
        )
        assert newest.role.name == "ASSISTANT"
        assert memory.retrieve("Where did I move?").memories[0].memory.id == oldest.id


def test_a_file_of_another_kind_is_refused_by_its_name(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    result = run(server, "ana", str(path), "--from", "mem0")
    assert result.exit_code == 2
    assert "notes.txt: is not JSON" in result.stderr
    assert run(server, "ana", str(path), "--dry-run").exit_code == 2


def test_what_is_there_is_known_by_its_words_too(server: ServerProcess, tmp_path: Path) -> None:
    """The server forgets a request id after a day; a file whose ids are others stands for that."""
    user, path = f"import-{uuid.uuid4().hex[:8]}", tmp_path / "memories.json"
    words = ["Lives in Lisbon", "Likes plums", "Likes plums"]
    path.write_text(json.dumps([{"id": f"a{n}", "memory": text} for n, text in enumerate(words[:2])]))
    assert "2 stored, 0 were there" in run(server, user, str(path), "--from", "mem0").stdout
    path.write_text(json.dumps([{"id": f"b{n}", "memory": text} for n, text in enumerate(words)]))
    assert "1 stored, 2 were there" in run(server, user, str(path), "--from", "mem0").stdout


def test_memories_of_several_users_are_not_mixed(server: ServerProcess, tmp_path: Path) -> None:
    user, path = f"import-{uuid.uuid4().hex[:8]}", tmp_path / "memories.json"
    path.write_text(
        json.dumps([{"memory": "Lives in Lisbon", "user_id": "a"}, {"memory": "Likes tea", "user_id": "b"}])
    )
    refused = run(server, user, str(path), "--from", "mem0")
    assert refused.exit_code == 2
    assert "holds memories of 2 users: a, b; say whose with --only" in refused.stderr
    assert "1 stored" in run(server, user, str(path), "--from", "mem0", "--only", "b").stdout
    with Client(server.address, api_key=server.key, user_id=user) as memory:
        assert [one.text for one in memory.list()] == ["Likes tea"]
    assert run(server, user, str(path), "--from", "jsonl", "--only", "b").exit_code == 2
