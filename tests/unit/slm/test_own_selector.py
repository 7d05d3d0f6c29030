"""The Selector that the package brings: it reads what it was trained to read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from lightmem_server.pipeline.tuning import REFERENCE_SELECTOR, TUNINGS, tuning_for
from lightmem_server.slm.distill.dialogues import write_dialogues
from lightmem_server.slm.pull import pull
from lightmem_server.slm.selector import CrossEncoderSelector, load_selector

NAME = "lightmem-selector-l4"
LONGEST_BYTES = 25_000_000


class Silent:
    def say(self, message: str) -> None: ...

    def advance(self, title: str, done_bytes: int, total_bytes: int) -> None: ...


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (installed,) = pull([NAME], folder, progress=Silent())
    assert installed.size_bytes <= LONGEST_BYTES, "or it would be too large for the package"
    return folder


@pytest.fixture
async def selector(models_dir: Path) -> AsyncIterator[CrossEncoderSelector]:
    selector = load_selector(models_dir, NAME, threads=1)
    yield selector
    await selector.close()


async def test_on_dialogues_it_has_not_read_answers_stand_first(selector: CrossEncoderSelector) -> None:
    asked = [one for one in write_dialogues(12, seed=7) if one.positives]
    firsts = []
    for one in asked:
        logits = await selector.judge(one.question, one.passages)
        firsts.append(int(np.argmax([-np.inf if logit is None else logit for logit in logits])) in one.positives)
    assert np.mean(firsts) > 0.9, "its card says .97"


async def test_its_highest_logit_is_not_above_what_certainty_reckons_with(selector: CrossEncoderSelector) -> None:
    question = "When did Ana move to Lisbon?"
    logits = await selector.judge(question, ["Ana: I moved to Lisbon on 3 May 2023.", question, "Lisbon " * 50])
    assert max(logit for logit in logits if logit is not None) <= TUNINGS[NAME].highest_logit


def test_a_selector_that_is_not_known_has_the_constants_of_the_reference() -> None:
    assert tuning_for("somebody-elses") is TUNINGS[REFERENCE_SELECTOR]
    assert tuning_for(NAME) is TUNINGS[NAME]
