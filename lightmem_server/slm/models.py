"""Installed models: one folder each, with a model.json that describes it and lists the sha256 of every file.

    MODELS_DIR/
      bge-small-en-v1.5/        model.bin, config.json, vocabulary.json, tokenizer.json, [head.npz,] model.json
      .downloads/ .work/ .locks/    of pull.py; safe to delete when no pull runs

A folder appears complete or not at all (pull.py renames it into place), so a present model.json means a finished model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lightmem_server.errors import ModelChecksumError, ModelNotFoundError
from lightmem_server.slm.manifest import FileName, Manifest, ModelRole, ModelSpec, Sha256, load_manifest

DESCRIPTION_FILE = "model.json"

COMPUTING_FILES = ("model.bin", "tokenizer.json", "head.npz")
"""Those of a model's files that its outputs depend on."""


class InstalledFile(BaseModel):
    """A file of an installed model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int = Field(ge=0)
    sha256: Sha256


class InstalledModel(BaseModel):
    """The content of a model.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FileName
    fingerprint: str
    """ManifestModel.fingerprint of the source that it was made from."""
    source: str
    quantization: str
    spec: ModelSpec
    files: Mapping[FileName, InstalledFile]

    @property
    def identity(self) -> str:
        """Such as "bge-small-en-v1.5/int8/26fc7cad872d": equal exactly when the outputs compare.

        The hash is over the weights, the tokenizer, the pooling, the prefixes and the longest input.
        """
        parts = [
            *(self.files[name].sha256 for name in COMPUTING_FILES if name in self.files),
            self.spec.pooling,
            self.spec.query_prefix,
            self.spec.passage_prefix,
            self.spec.max_tokens,
        ]
        return f"{self.name}/{self.quantization}/{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"

    @property
    def size_bytes(self) -> int:
        """Of all its files but model.json."""
        return sum(file.size_bytes for file in self.files.values())


class ModelState(StrEnum):
    """What is in a model's folder."""

    INSTALLED = "installed"
    MISSING = "missing"
    DAMAGED = "damaged"
    OUTDATED = "outdated"
    """Complete, but the manifest now says otherwise; `pull` replaces it."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One line of `lightmem models list`."""

    name: str
    role: ModelRole
    state: ModelState
    size_bytes: int
    """On disk; 0 when missing."""
    licence: str
    detail: str
    """What is wrong, or where it came from."""


def default_models_dir(environment: Mapping[str, str] | None = None) -> Path:
    """LIGHTMEM_MODELS_DIR, or the user's cache folder for LightMem."""
    configured = (os.environ if environment is None else environment).get("LIGHTMEM_MODELS_DIR")
    if configured:
        return Path(configured).expanduser()
    return Path(platformdirs.user_cache_dir("lightmem", appauthor=False)) / "models"


def read_installed(directory: Path, name: str) -> InstalledModel:
    """The description of an installed model. Its files are looked at (they exist, their sizes are right), not hashed.

    Raises:
        ModelNotFoundError: Not installed; the message says how to.
        ModelChecksumError: Damaged: a file is missing or has another size.
    """
    folder = directory / name
    try:
        installed = InstalledModel.model_validate_json((folder / DESCRIPTION_FILE).read_bytes())
    except FileNotFoundError as error:
        raise ModelNotFoundError(
            f"model {name} is not in {directory}; run `lightmem models pull {name}` (or `make models`)"
        ) from error
    except ValidationError as error:
        raise _damaged(name, f"{DESCRIPTION_FILE} cannot be read") from error
    for file_name, file in installed.files.items():
        path = folder / file_name
        if not path.is_file():
            raise _damaged(name, f"{file_name} is missing")
        if path.stat().st_size != file.size_bytes:
            raise _damaged(name, f"{file_name} has {path.stat().st_size} bytes instead of {file.size_bytes}")
    return installed


def _damaged(name: str, what: str) -> ModelChecksumError:
    return ModelChecksumError(f"model {name} is damaged: {what}; run `lightmem models pull {name}`")


def check_installed(directory: Path, name: str) -> InstalledModel:
    """As read_installed, and every file is hashed.

    Raises:
        ModelNotFoundError, ModelChecksumError.
    """
    installed = read_installed(directory, name)
    for file_name, file in installed.files.items():
        if hash_file(directory / name / file_name) != file.sha256:
            raise _damaged(name, f"{file_name} has another content (sha256) than when it was installed")
    return installed


def list_models(directory: Path, *, manifest: Manifest | None = None) -> list[ModelStatus]:
    """The state of every model of the manifest, in its order. Quick: nothing is hashed."""
    manifest = manifest or load_manifest()
    return [_status(directory, name, manifest, is_thorough=False) for name in manifest.models]


def verify(names: Iterable[str], directory: Path, *, manifest: Manifest | None = None) -> list[ModelStatus]:
    """The state of the named models, every file hashed again.

    Raises:
        ModelNotFoundError: The manifest has no such model. (One that isn't installed is a status, no error.)
    """
    manifest = manifest or load_manifest()
    return [_status(directory, name, manifest, is_thorough=True) for name in names]


def _status(directory: Path, name: str, manifest: Manifest, *, is_thorough: bool) -> ModelStatus:
    entry = manifest.get(name)
    state, size_bytes, detail = ModelState.INSTALLED, 0, ""
    try:
        installed = (check_installed if is_thorough else read_installed)(directory, name)
        size_bytes, detail = installed.size_bytes, installed.source
        if not entry.is_current(installed.fingerprint):
            state, detail = ModelState.OUTDATED, "made from another version of the manifest"
    except ModelNotFoundError:
        state = ModelState.MISSING
    except ModelChecksumError as error:
        state, detail = ModelState.DAMAGED, error.message
    return ModelStatus(name, entry.role, state, size_bytes, entry.licence, detail)


def hash_file(path: Path) -> str:
    """The sha256 of a file, as lowercase hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
