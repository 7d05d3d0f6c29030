"""The Selector that the package brings: it reads what it was trained to read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lightmem_server.pipeline.tuning import DEFAULT_SELECTOR, TUNINGS, tuning_for
from lightmem_server.slm.pull import pull
from lightmem_server.slm.selector import CrossEncoderSelector, load_selector, to_probability

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


@pytest.mark.parametrize(
    ("query", "best", "others"),
    [
        (
            "When is Ana moving?",
            "Ben: When do you move? | Ana: Next Friday!",
            ["Ben: When do you move?", "Ben: How are you? | Ana: Fine!", "Ana: I moved the sofa to the window."],
        ),
        (
            "What is the name of my dog?",
            "Carla: Did you find a name for the puppy? | Dan: Biscuit, it suits him.",
            ["Carla: Did you find a name for the puppy?", "Dan: My name is on the list.", "Carla: Dogs are lovely."],
        ),
        (
            "Who taught Eve to sail?",
            "Fred: Who taught you that? | Eve: My grandfather, on the lake.",
            ["Fred: Who taught you that?", "Eve: I teach on Mondays.", "Fred: The sale begins tomorrow."],
        ),
    ],
)
async def test_the_answer_stands_before_its_question_and_before_like_words(
    selector: CrossEncoderSelector, query: str, best: str, others: list[str]
) -> None:
    answer, *rest = await selector.judge(query, [best, *others])
    assert answer is not None
    assert all(logit is not None and logit < answer for logit in rest)
    assert to_probability(answer) > 0.15


async def test_its_highest_logit_is_not_above_what_certainty_reckons_with(selector: CrossEncoderSelector) -> None:
    question = "When did Ana move to Lisbon?"
    logits = await selector.judge(question, ["Ana: I moved to Lisbon on 3 May 2023.", question, "Lisbon " * 50])
    assert max(logit for logit in logits if logit is not None) <= TUNINGS[NAME].highest_logit


def test_a_selector_that_is_not_known_has_the_constants_of_the_default() -> None:
    assert tuning_for("somebody-elses") is TUNINGS[DEFAULT_SELECTOR]
    assert tuning_for(NAME) is TUNINGS[NAME]
