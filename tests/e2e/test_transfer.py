"""A user moves from one real server to another by the command line, and back into the first after an erasure."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from lightmem_client import Client, MemoryFilter, Turn

from lightmem_server.cli import cli
from tests.server_process import ServerProcess

SAID = (
    "I live in Lisbon and I work as a nurse.",
    "My sister is called Rita. She is a baker.",
    "I am allergic to peanuts.",
    "We moved to Porto last month.",
)


def lightmem(server: ServerProcess, *arguments: str) -> Result:
    connection = ("--target", server.address, "--key", server.key)
    result = CliRunner().invoke(cli, [*arguments, *connection], prog_name="lightmem")
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("crash", [False, True], ids=["whole", "broken off"])
def test_a_user_moves_by_the_command_line(tmp_path: Path, crash: bool) -> None:
    first, again, back = (str(tmp_path / f"{name}.jsonl") for name in ("first", "again", "back"))
    with ServerProcess(tmp_path / "here") as here, Client(here.address, api_key=here.key, user_id="ana") as client:
        client.write([Turn(text, speaker="Ana") for text in SAID], session_id="s")
        for _ in client.consolidate(timeout_seconds=100):
            pass
        client.write([Turn(f"I said {number}.", speaker="Ana") for number in range(100)], session_id="t")
        lightmem(here, "export", "ana", "--output", first)
        memories = list(client.list(filter=MemoryFilter(include_archived=True)))
        with ServerProcess(tmp_path / "there") as there:
            lightmem(there, "import", "ana", first)
            lightmem(there, "export", "ana", "--output", again)
            if crash:
                there.kill()
        with ServerProcess(tmp_path / "there") as there:
            assert Path(again).read_bytes() == Path(first).read_bytes()
            assert "0 memories imported" in lightmem(there, "import", "ana", first).stdout
            lightmem(there, "export", "ana", "--output", back)
        assert Path(back).read_bytes() == Path(first).read_bytes()
        lightmem(here, "erase", "ana", "--yes")
        lightmem(here, "import", "ana", back)
        assert list(client.list(filter=MemoryFilter(include_archived=True))) == memories
        found = client.retrieve("What is Ana allergic to?", deadline_seconds=5).memories
        assert "peanuts" in found[0].memory.text
