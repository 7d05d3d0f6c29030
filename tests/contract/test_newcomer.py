"""The first five minutes in each language, from the text of its README alone: install, ten lines, remembered.

In an empty folder, the shell's blocks of a README's first part are run as they stand, and its program is saved under the name
that the text gives it. What they promise to print has to be printed. `LIGHTMEM` is the clone, as the READMEs say.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.client_tools import BUILD_SECONDS, ROOT
from tests.server_process import ServerProcess

LONGEST_PROGRAM = 22
"""Lines with something on them: ten, and in Go those of its package, its imports and its errors."""

LANGUAGES = {
    "python": ("python3",),
    "go": ("go",),
    "typescript": ("node", "npm"),
    "java": ("java", "mvn"),
    "rust": ("cargo",),
}
"""And what must be installed for it."""

BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


def read_path(readme: str) -> tuple[str, list[str], int]:
    """The first part of a README as a script, what it promises to print, and how long its program is."""
    part = readme.split("\n## ")[0]
    steps, length = ["set -eu"], 0
    for block in BLOCK.finditer(part):
        text = block["text"]
        if block["language"] == "sh":
            steps.append(text)
            continue
        (name,) = re.findall(r"as `([\w.]+)`:$", block["before"])
        length += sum(bool(line.strip()) for line in text.splitlines())
        steps.append(f"printf %s {shlex.quote(text)} > {name}")
    return "\n".join(steps), re.findall(r"(?:#|//) prints: (.*)", part), length


@pytest.mark.timeout(BUILD_SECONDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_newcomer_is_remembered(server: ServerProcess, language: str, tmp_path: Path) -> None:
    missing = [program for program in LANGUAGES[language] if shutil.which(program) is None]
    if missing:
        pytest.skip(f"the {language} newcomer, since {', '.join(missing)} is not installed")
    script, promised, length = read_path((ROOT / "clients" / language / "README.md").read_text("utf-8"))
    assert length <= LONGEST_PROGRAM
    environment = {name: value for name, value in os.environ.items() if name not in ("LIGHTMEM_API_KEY", "VIRTUAL_ENV")}
    environment |= {
        "LIGHTMEM": str(ROOT),
        "LIGHTMEM_TARGET": server.address,
        "LIGHTMEM_DATA_DIR": str(server.data_dir),
        "CARGO_TARGET_DIR": str(ROOT / "target" / "clients-rust"),
    }
    run = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert promised
    for expected in promised:
        assert expected in run.stdout


def test_every_client_has_its_newcomer() -> None:
    """`clients/README.md` names them."""
    folders = {path.parent.name for path in (ROOT / "clients").glob("*/README.md")}
    assert folders == set(LANGUAGES) == {path.name for path in (ROOT / "clients").iterdir() if path.is_dir()}
