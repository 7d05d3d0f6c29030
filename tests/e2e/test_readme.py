"""What the README says, works: its example runs, its commands and settings exist, its numbers name their command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_client_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    (example,) = blocks("python")
    expected = re.findall(r"# prints: (.*)", example)
    with ServerProcess(tmp_path / "data") as server:
        run = subprocess.run(
            [sys.executable, "-c", example],
            env={"LIGHTMEM_TARGET": server.address, "LIGHTMEM_DATA_DIR": str(server.data_dir), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert run.stderr == ""
    assert run.stdout.splitlines() == expected
    assert expected


def test_the_commands_do_what_the_readme_says_in_its_order(tmp_path: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("lightmem ")]
    script = "\n".join(["set -eux", *(line for line in lines if not line.startswith("lightmem serve"))])
    script = script.replace("erase ana ", "erase ana --yes ")  # which it asks for
    said = {"author": {"role": "user"}, "content": {"parts": ["I sold my car in Porto."]}}
    export = [{"id": "c", "current_node": "a", "mapping": {"a": {"message": said}}}]
    (tmp_path / "conversations.json").write_text(json.dumps(export))
    with ServerProcess(tmp_path / "data") as server:
        environment = {"LIGHTMEM_TARGET": server.address, "LIGHTMEM_DATA_DIR": str(server.data_dir)}
        run = subprocess.run(
            ["bash", "-c", script],
            env={**os.environ, **environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    for expected in (
        "I moved to Lisbon in May, for the light.",
        "1 turns in 1 conversations; 1 stored",
        "1 were there",
    ):
        assert expected in run.stdout
    assert (tmp_path / "ana.jsonl").exists()


def test_the_example_is_as_short_as_promised() -> None:
    (example,) = blocks("python")
    code = [line for line in example.splitlines() if line.strip() and not line.startswith(("#", "from ", "import "))]
    assert len(code) <= 5


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z][a-z-]*)", README))))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\blightmem ([a-z]+)\b", "\n".join(blocks("sh"))))))
def test_every_command_exists(command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "lightmem_server", command, "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_links_point_to_files() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert [target for target in targets if not (ROOT / target).exists()] == []
