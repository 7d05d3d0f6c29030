"""Examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"lightmem_server": ROOT, "tests/bench": ROOT, "clients/python/lightmem_client": ROOT / "clients" / "python"}
TRAINING = "lightmem_server.slm.distill."
"""Needs the extra [train]."""


def _modules() -> list[str]:
    found = []
    for folder, base in FOLDERS.items():
        paths = (path for path in sorted((ROOT / folder).rglob("*.py")) if ">>>" in path.read_text("utf-8"))
        found += [".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return found


MODULES = _modules()


def test_examples_are_found() -> None:
    assert {"lightmem_server.slm.asker", "lightmem_server.pipeline.consolidation.phrasing"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_examples_hold(module: str) -> None:
    if module.startswith(TRAINING) and importlib.util.find_spec("jax") is None:
        pytest.skip("needs the extra [train]")
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed
