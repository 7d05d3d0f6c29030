"""A server's models: one of each role, and consolidation's gate has the Selector that its threshold was set for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightmem_server.config import Settings, load
from lightmem_server.errors import UnavailableError
from lightmem_server.slm.manifest import ModelRole
from lightmem_server.slm.runtime import load_models
from tests.unit.slm import tiny_bert


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tiny_bert.install(tmp_path, "embedder", ModelRole.EMBEDDER)
    tiny_bert.install(tmp_path, "quick", ModelRole.SELECTOR)
    tiny_bert.install(tmp_path, "strict", ModelRole.SELECTOR)
    flags = {
        "models_dir": tmp_path,
        "embedder": "embedder",
        "selector": "quick",
        "gate_selector": "strict",
        "threads": 1,
    }
    return load(flags, environment={})


async def test_the_gate_has_a_selector_of_its_own(settings: Settings) -> None:
    models = load_models(settings)
    assert (models.embedder.name, models.selector.name, models.gate.name) == ("embedder", "quick", "strict")
    await models.close()
    with pytest.raises(UnavailableError):
        await models.gate.judge("who likes tea", ["anna likes tea"])


@pytest.mark.parametrize("change", [{"gate_selector": "quick"}, {"consolidation": "off"}], ids=["same", "no-gate"])
async def test_no_model_is_loaded_twice_nor_for_nothing(settings: Settings, change: dict[str, str]) -> None:
    models = load_models(settings.model_copy(update=change))
    assert models.gate is models.selector
    await models.close()
