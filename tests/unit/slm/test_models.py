"""Installed models: where they are, and what state they are in."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightmem_server.errors import ModelChecksumError, ModelNotFoundError
from lightmem_server.slm.manifest import Manifest, ManifestModel, ModelRole
from lightmem_server.slm.models import (
    DESCRIPTION_FILE,
    InstalledModel,
    ModelState,
    check_installed,
    default_models_dir,
    list_models,
    read_installed,
    verify,
)
from tests.unit.slm import tiny_bert

FILE = {"path": "f", "size_bytes": 1, "sha256": "0" * 64}
SOURCE = {
    "kind": "hub",
    "format": "onnx",
    "repository": "a/b",
    "revision": "0" * 40,
    "weights": FILE,
    "tokenizer": FILE,
}


@pytest.fixture
def manifest() -> Manifest:
    spec = tiny_bert.make_spec(ModelRole.EMBEDDER)
    entry = ManifestModel.model_validate({**spec.model_dump(), "sources": [SOURCE]})
    return Manifest(profiles={}, models={"tiny": entry, "absent": entry})


@pytest.fixture
def directory(tmp_path: Path, manifest: Manifest) -> Path:
    """A models' folder with the manifest's "tiny" installed."""
    tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER)
    description = tmp_path / "tiny" / DESCRIPTION_FILE
    installed = InstalledModel.model_validate_json(description.read_text())
    entry = manifest.get("tiny")
    current = installed.model_copy(update={"fingerprint": entry.fingerprint(entry.sources[0])})
    description.write_text(current.model_dump_json())
    return tmp_path


def states(directory: Path, manifest: Manifest) -> tuple[ModelState, ModelState]:
    """Of "tiny": as listed, and as verified."""
    listed = list_models(directory, manifest=manifest)[0].state
    return listed, verify(["tiny"], directory, manifest=manifest)[0].state


def test_an_untouched_model_is_installed(directory: Path, manifest: Manifest) -> None:
    assert states(directory, manifest) == (ModelState.INSTALLED, ModelState.INSTALLED)
    (status, absent) = list_models(directory, manifest=manifest)
    assert (status.name, status.role, status.licence, status.detail) == ("tiny", "embedder", "none", "random")
    assert status.size_bytes == sum(
        path.stat().st_size for path in (directory / "tiny").iterdir() if path.name != DESCRIPTION_FILE
    )
    assert (absent.state, absent.size_bytes) == (ModelState.MISSING, 0)


@pytest.mark.parametrize("file", ["model.bin", "tokenizer.json"])
def test_a_changed_byte_is_found_by_verify(directory: Path, manifest: Manifest, file: str) -> None:
    path = directory / "tiny" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert states(directory, manifest) == (ModelState.INSTALLED, ModelState.DAMAGED)
    with pytest.raises(ModelChecksumError, match=f"{file} has another content"):
        check_installed(directory, "tiny")


def test_a_cut_file_is_found_at_once(directory: Path, manifest: Manifest) -> None:
    path = directory / "tiny" / "model.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert states(directory, manifest) == (ModelState.DAMAGED, ModelState.DAMAGED)
    with pytest.raises(ModelChecksumError, match="lightmem models pull tiny"):
        read_installed(directory, "tiny")


def test_a_missing_file_is_found_at_once(directory: Path, manifest: Manifest) -> None:
    (directory / "tiny" / "tokenizer.json").unlink()
    assert states(directory, manifest) == (ModelState.DAMAGED, ModelState.DAMAGED)


@pytest.mark.parametrize("content", ["", "{}", '{"name": "tiny", "files": {"../../etc/passwd": {}}}'])
def test_an_unreadable_description_is_damage(directory: Path, manifest: Manifest, content: str) -> None:
    (directory / "tiny" / DESCRIPTION_FILE).write_text(content)
    assert states(directory, manifest) == (ModelState.DAMAGED, ModelState.DAMAGED)


def test_a_changed_manifest_makes_a_model_outdated(directory: Path, manifest: Manifest) -> None:
    entry = manifest.get("tiny").model_copy(update={"max_tokens": 12})
    changed = Manifest(profiles={}, models={"tiny": entry})
    assert states(directory, changed) == (ModelState.OUTDATED, ModelState.OUTDATED)


def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="lightmem models pull bge"):
        read_installed(tmp_path, "bge")


def test_verifying_an_unknown_name_is_an_error(directory: Path, manifest: Manifest) -> None:
    with pytest.raises(ModelNotFoundError, match="no model is called 'tine'; did you mean 'tiny'"):
        verify(["tine"], directory, manifest=manifest)


def test_the_folder_comes_from_the_environment_or_the_users_cache() -> None:
    assert default_models_dir({"LIGHTMEM_MODELS_DIR": "/srv/models"}) == Path("/srv/models")
    assert default_models_dir({"LIGHTMEM_MODELS_DIR": "~/m"}) == Path.home() / "m"
    assert default_models_dir({}).parts[-2:] == ("lightmem", "models")
