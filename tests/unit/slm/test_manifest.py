"""The manifest: what is in ours, and what is refused in any."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from lightmem_server.config import Settings
from lightmem_server.errors import ModelError, ModelNotFoundError
from lightmem_server.slm.manifest import (
    HubSource,
    JoinedSource,
    ManifestModel,
    ModelRole,
    Pooling,
    WheelSource,
    load_manifest,
)

GOOD = """
[profiles]
lite = ["m"]
[models.m]
role = "embedder"
licence = "MIT"
dim = 32
heads = 4
max_tokens = 16
pooling = "cls"
[[models.m.sources]]
kind = "hub"
format = "safetensors"
repository = "who/what"
revision = "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a"
weights = { path = "model.safetensors", size_bytes = 1, sha256 = "HASH" }
tokenizer = { path = "tokenizer.json", size_bytes = 1, sha256 = "HASH" }
""".replace("HASH", "0" * 64)


def test_the_default_models_of_the_settings_are_in_profile_lite_with_their_roles() -> None:
    manifest, settings = load_manifest(), Settings()
    assert set(manifest.profiles["lite"]) == set(settings.needed_models)
    assert manifest.get(settings.embedder).role is ModelRole.EMBEDDER
    assert manifest.get(settings.selector).role is ModelRole.SELECTOR
    assert manifest.get(settings.gate_selector).role is ModelRole.SELECTOR


def test_models_of_one_wheel_agree_on_it() -> None:
    wheels = [
        source for m in load_manifest().models.values() for source in m.sources if isinstance(source, WheelSource)
    ]
    for source in wheels:
        same = [(other.sha256, other.size_bytes, other.version) for other in wheels if other.file == source.file]
        assert len(set(same)) == 1
        assert source.file.startswith(f"{source.package.replace('-', '_')}-{source.version}-")


def test_the_first_source_of_every_model_is_a_wheel() -> None:
    assert not any(isinstance(model.sources[0], HubSource) for model in load_manifest().models.values())


def test_the_profiles_beyond_lite_add_a_writer_to_it() -> None:
    manifest = load_manifest()
    lite = manifest.profiles["lite"]
    for profile in ("small", "standard"):
        assert manifest.profiles[profile][: len(lite)] == lite
        (writer,) = manifest.profiles[profile][len(lite) :]
        assert manifest.get(writer).role is ModelRole.WRITER
        assert manifest.find_writer(profile) == writer
    assert manifest.find_writer("lite") is None


def test_a_writer_is_found_by_its_own_name_too() -> None:
    assert load_manifest().find_writer("smollm2-135m-instruct") == "smollm2-135m-instruct"
    with pytest.raises(ModelError, match="has the role selector, not writer"):
        load_manifest().find_writer("ms-marco-MiniLM-L-12-v2")
    with pytest.raises(ModelNotFoundError, match="no model is called 'tiny'"):
        load_manifest().find_writer("tiny")


def test_the_pieces_of_a_joined_model_are_numbered_without_a_gap() -> None:
    joined = [s for m in load_manifest().models.values() for s in m.sources if isinstance(s, JoinedSource)]
    assert sorted(len(source.parts) for source in joined) == [1, 6, 22]
    for source in joined:
        for number, part in enumerate(source.parts, start=1):
            assert part.file.startswith(f"{part.package.replace('-', '_')}-{part.version}-")
            assert len(source.parts) == 1 or part.package.endswith(f"-part{number}")
            assert len(source.parts) == 1 or part.path.endswith(f"/part{number:02}.bin")


def test_bge_is_described_as_its_authors_do() -> None:
    model = load_manifest().get("bge-small-en-v1.5")
    assert (model.dim, model.pooling, model.max_tokens) == (384, Pooling.CLS, 512)
    assert model.query_prefix == "Represent this sentence for searching relevant passages: "
    assert model.passage_prefix == ""


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelNotFoundError, match=r"did you mean 'bge-small-en-v1\.5'"):
        load_manifest().get("bge-small")


def test_the_fingerprint_changes_with_the_entry() -> None:
    entry = load_manifest().get("bge-small-en-v1.5")
    changed = ManifestModel.model_validate({**entry.model_dump(), "max_tokens": 256})
    fingerprint = entry.fingerprint(entry.sources[0])
    assert load_manifest().get("bge-small-en-v1.5").is_current(fingerprint)
    assert not changed.is_current(fingerprint)


def test_another_source_makes_no_installation_outdated() -> None:
    entry = load_manifest().get("bge-small-en-v1.5")
    assert len({entry.fingerprint(source) for source in entry.sources}) == len(entry.sources)
    only_wheel = entry.model_copy(update={"sources": entry.sources[:1]})
    assert entry.is_current(only_wheel.fingerprint(entry.sources[0]))
    assert not only_wheel.is_current(entry.fingerprint(entry.sources[1]))


def test_a_good_manifest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(GOOD)
    assert list(load_manifest(path).models) == ["m"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('lite = ["m"]', 'lite = ["n"]'),
        ('role = "embedder"', 'role = "oracle"'),
        ('pooling = "cls"', ""),
        ('role = "embedder"', 'role = "selector"'),
        ("heads = 4", "heads = 5"),
        ("heads = 4", "heads = 4\nhands = 2"),
        ("0" * 64, "0" * 63),
        ('"model.safetensors"', '"../model.safetensors"'),
        ('"model.safetensors"', '"/etc/passwd"'),
        ('kind = "hub"', 'kind = "ftp"'),
        ('revision = "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a"', 'revision = "main"'),
        ("[models.m]", '[models."../m"]'),
        ("dim = 32", "dim = "),
    ],
    ids=[
        "profile-of-nothing",
        "role",
        "no-pooling",
        "selector-with-pooling",
        "heads",
        "unknown-key",
        "short-hash",
        "path-up",
        "path-absolute",
        "kind",
        "moving-revision",
        "name-up",
        "no-toml",
    ],
)
def test_a_bad_manifest_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "m.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ModelError, match=r"m\.toml cannot be used"):
        load_manifest(path)


def test_the_manifest_is_part_of_the_package() -> None:
    text = resources.files("lightmem_server.slm").joinpath("manifest.toml").read_text("utf-8")
    assert tomllib.loads(text)["models"]
