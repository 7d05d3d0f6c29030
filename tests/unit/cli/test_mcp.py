from __future__ import annotations

import pytest
from click.testing import CliRunner

from lightmem_server.cli import cli


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "stdio needs --user"),
        (["--user", "ann", "--target", "http://localhost:7420"], "takes HOST:PORT, not http://localhost:7420"),
        (["--transport", "http", "--listen", "0.0.0.0:7421"], "beyond loopback"),
        (["--transport", "http", "--listen", "nowhere"], "--listen must be HOST:PORT"),
        (["--transport", "http", "--listen", "127.0.0.1:99999"], "--listen must be HOST:PORT"),
    ],
)
def test_wrong_use_is_refused_before_anything_starts(arguments: list[str], says: str) -> None:
    result = CliRunner(env={"LIGHTMEM_USER": None}).invoke(cli, ["mcp", *arguments])
    assert result.exit_code == 2
    assert says in result.stderr
