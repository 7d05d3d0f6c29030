from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from clients.python.tests.peer import KEY, Peer
from lightmem_server.cli import cli


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIGHTMEM_TARGET", "LIGHTMEM_API_KEY", "LIGHTMEM_DATA_DIR", "LIGHTMEM_MODELS_DIR", "LIGHTMEM_LISTEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


@pytest.fixture
def run(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `lightmem ARGS` against the peer, as a user with its key would."""
    monkeypatch.setenv("LIGHTMEM_TARGET", peer.target)
    monkeypatch.setenv("LIGHTMEM_API_KEY", KEY)

    def run(*args: str, input: str | None = None) -> Result:
        return CliRunner().invoke(cli, args, input=input, prog_name="lightmem")

    return run
