from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import Result

from clients.python.tests.peer import Peer
from lightmem_server.cli import COMMANDS, cli
from lightmem_server.cli.options import EXIT_CODES, ExitCode

Run = Callable[..., Result]
HEAVY = {"ctranslate2", "numpy", "tokenizers", "grpc", "apsw", "onnx", "pydantic"}


def test_help_imports_nothing_heavy() -> None:
    program = f"import sys, lightmem_server.cli as c; c.cli(['--help'], standalone_mode=False); {HEAVY=}"
    program += "; sys.exit(' '.join(HEAVY & set(sys.modules)) or 0)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.stderr.strip(), ended.returncode) == ("", 0)


def test_help_names_every_command_and_the_exit_codes(run: Run) -> None:
    help_text = run("--help").output
    assert all(f"\n  {name} " in help_text for name in COMMANDS)
    assert all(f"\n    {code.value}  " in help_text for code in ExitCode)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_a_help_that_says_what_it_does(name: str, run: Run) -> None:
    assert importlib.import_module(COMMANDS[name][0])
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: lightmem {name}" in result.output


@pytest.mark.parametrize("name", ["demo", "add", "search", "list", "history", "consolidate", "stats", "doctor"])
def test_command_that_prints_has_json(name: str, run: Run) -> None:
    assert "--json" in run(name, "--help").output


def test_every_command_module_is_in_the_table() -> None:
    context = click.Context(cli)
    assert cli.list_commands(context) == list(COMMANDS)
    assert cli.get_command(context, "nonsense") is None


def test_version_is_the_installed_packages(run: Run) -> None:
    try:
        version = importlib.metadata.version("lightmem-server")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lightmem-server is not installed here; `make build` does")
    assert run("--version").output == f"lightmem {version}\n"


def test_unknown_command_is_a_usage_error(run: Run) -> None:
    result = run("serv")
    assert result.exit_code == ExitCode.USAGE
    assert "No such command" in result.output


def test_every_exit_code_of_an_error_is_documented() -> None:
    assert set(EXIT_CODES.values()) <= set(ExitCode)


def test_no_server_is_one_clear_sentence_and_exit_code_4(run: Run, peer: Peer) -> None:
    peer.stop()
    result = run("stats")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: no server answers at {peer.target}; start one with `lightmem serve`")
    assert len(result.stderr.splitlines()) == 1


def test_wrong_key_is_exit_code_4(run: Run) -> None:
    result = run("stats", "--key", "lm_wrong")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert len(result.stderr.splitlines()) == 1


def test_unknown_key_to_revoke_is_exit_code_3(run: Run) -> None:
    assert run("keys", "revoke", "nothing").exit_code == ExitCode.NOT_FOUND


def test_target_may_be_given(run: Run, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTMEM_TARGET", "localhost:1")
    assert run("stats", "--target", peer.target).exit_code == ExitCode.OK
