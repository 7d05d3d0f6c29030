from __future__ import annotations

import re
from pathlib import Path

import pytest
from clients.python.tests.peer import KEY, Peer

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def _local_server(peer: Peer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTMEM_TARGET", peer.target)
    monkeypatch.setenv("LIGHTMEM_API_KEY", KEY)


@pytest.mark.usefixtures("_local_server")
@pytest.mark.parametrize("example", EXAMPLES, ids=[f"example {number}" for number in range(1, len(EXAMPLES) + 1)])
def test_example_runs(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


def test_first_example_has_five_lines() -> None:
    assert len([line for line in EXAMPLES[0].splitlines() if line]) <= 5
