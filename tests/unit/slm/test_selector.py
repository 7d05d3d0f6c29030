"""The Selector, on a tiny cross-encoder whose logits are known."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

import pytest

from lightmem_server.errors import ModelError, ModelNotFoundError, UnavailableError
from lightmem_server.slm.convert import HEAD_FILE
from lightmem_server.slm.manifest import ModelRole
from lightmem_server.slm.pace import Pace
from lightmem_server.slm.selector import load_selector, to_probability
from lightmem_server.slm.tokens import load_input_tokenizer
from tests.unit.slm import tiny_bert

QUERY = "who likes tea"
PASSAGES = ["anna likes tea", "the cat", "", "ben drinks blue tea on the moon", "a dog sat on the red mat in paris"] * 4


async def test_logits_are_those_of_the_reference_in_the_order_of_the_passages(tmp_path: Path) -> None:
    weights = tiny_bert.install(tmp_path, "tiny", ModelRole.SELECTOR, quantization="float32")
    selector = load_selector(tmp_path, "tiny", threads=2, compute_type="float32")
    inputs = load_input_tokenizer(tmp_path / "tiny" / "tokenizer.json", max_tokens=tiny_bert.MAX_TOKENS)
    want = [
        tiny_bert.logit(weights, encoding.ids, encoding.type_ids)
        for encoding in inputs.encode_blocking([(QUERY, passage) for passage in PASSAGES])
    ]
    assert await selector.judge(QUERY, PASSAGES) == pytest.approx(want, abs=1e-3)
    await selector.close()


async def test_concurrent_callers_get_their_own_scores(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.SELECTOR, quantization="float32")
    selector = load_selector(tmp_path, "tiny", threads=2, compute_type="float32")
    queries = ["who likes tea", "where is the cat", "what is blue", "anna"] * 3
    alone = [await selector.judge(query, PASSAGES[:7]) for query in queries]
    together = await asyncio.gather(*(selector.judge(query, PASSAGES[:7]) for query in queries))
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    await selector.close()


async def test_a_deadline_in_the_past_judges_nothing(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.SELECTOR)
    selector = load_selector(tmp_path, "tiny", threads=1)
    assert await selector.judge(QUERY, PASSAGES, deadline=time.monotonic() - 1) == [None] * len(PASSAGES)
    assert await selector.judge(QUERY, [], deadline=time.monotonic() - 1) == []
    await selector.close()


async def test_time_for_less_than_one_passage_is_not_spent_on_tokenising(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.SELECTOR)
    selector = load_selector(tmp_path, "tiny", threads=1)
    long = ["tea " * 1000] * 2
    selector._queue._pace = Pace(100.0)
    await selector._tokenizer.close()
    assert await selector.judge(QUERY, long, deadline=time.monotonic() + 60) == [None, None]
    with pytest.raises(RuntimeError, match="shutdown"):
        await selector.judge(QUERY, long, deadline=time.monotonic() + 1e6)  # time enough: it is tokenised
    await selector.close()


async def test_closing_twice_is_fine_and_later_calls_are_refused(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.SELECTOR)
    selector = load_selector(tmp_path, "tiny", threads=1)
    await selector.judge(QUERY, PASSAGES)
    await asyncio.gather(selector.close(), selector.close())
    with pytest.raises(UnavailableError):
        await selector.judge(QUERY, PASSAGES)


async def test_identity_says_whether_logits_compare(tmp_path: Path) -> None:
    identities = []
    for folder, seed in (("a", 1), ("same", 1), ("weights", 2)):
        tiny_bert.install(tmp_path / folder, "tiny", ModelRole.SELECTOR, seed=seed)
        selector = load_selector(tmp_path / folder, "tiny", threads=1)
        identities.append(selector.identity)
        await selector.close()
    assert identities[0] == identities[1] != identities[2]


def test_loading_what_is_not_there_or_something_else_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        load_selector(tmp_path, "tiny")
    tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER)
    with pytest.raises(ModelError, match="tiny has the role embedder, not selector"):
        load_selector(tmp_path, "tiny")


def test_a_head_that_is_damaged_or_none_of_this_model_is_a_typed_error(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.SELECTOR)
    path = tmp_path / "tiny" / HEAD_FILE
    whole = path.read_bytes()  # of another size it is found out before
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(ModelError, match=r"head\.npz holds no weights"):
        load_selector(tmp_path, "tiny")
    path.write_bytes(whole.replace(b"weight", b"height"))
    with pytest.raises(ModelError, match=f"not the head of a cross-encoder of width {tiny_bert.DIM}"):
        load_selector(tmp_path, "tiny")


@pytest.mark.parametrize(
    ("logit", "expected"), [(0.0, 0.5), (math.log(3), 0.75), (-math.log(3), 0.25), (1000.0, 1.0), (-1000.0, 0.0)]
)
def test_probability_is_the_logistic_function_without_overflow(logit: float, expected: float) -> None:
    assert to_probability(logit) == pytest.approx(expected)
