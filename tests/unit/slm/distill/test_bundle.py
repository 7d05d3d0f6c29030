"""A trained model goes into the package, and the manifest can say what it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from lightmem_server.slm.distill import bundle
from lightmem_server.slm.manifest import BundledSource


def test_its_files_are_copied_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.bin").write_bytes(b"weights")
    (tmp_path / "package" / "ours").mkdir(parents=True)
    (tmp_path / "package" / "ours" / "README.md").write_text("the card")
    assert bundle.main([str(tmp_path / "model"), "ours", "--package", str(tmp_path / "package")]) == 0
    assert (tmp_path / "package" / "ours" / "model.bin").read_bytes() == b"weights"
    (source,) = tomllib.loads(capsys.readouterr().out)["models"]["ours"]["sources"]
    assert BundledSource.model_validate(source).size_bytes == 7
    assert "README.md" not in source["files"]
