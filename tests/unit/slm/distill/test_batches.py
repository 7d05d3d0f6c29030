"""Lists as arrays: whatever their lengths, each pair's value comes back to its passage's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lightmem_server.slm.distill.batches import LISTS_PER_BATCH, Batch, batches, encode_lists, make_batch
from lightmem_server.slm.distill.lists import PASSAGES, ReadList
from lightmem_server.slm.distill.sets import Part
from tests.unit.slm import tiny_bert


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_bert.make_tokenizer(path)
    return Tokenizer.from_file(str(path))


def _list(lengths: list[int]) -> ReadList:
    passages = tuple(" ".join(tiny_bert.WORDS[(i + n) % 20] for n in range(length)) for i, length in enumerate(lengths))
    return ReadList("s", Part.TRAIN, "who is ben", passages, tuple(float(i == 0) for i in range(len(lengths))))


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=PASSAGES)


@given(lengths=st.lists(LENGTHS, min_size=1, max_size=4))
def test_every_pair_comes_back_to_its_place(lengths: list[list[int]], tokenizer: Tokenizer) -> None:
    lists = [_list(of_one) for of_one in lengths]
    encodings = encode_lists(tokenizer, lists)
    scores = [np.arange(len(of_one), dtype=np.float32) for of_one in lengths]
    batch = make_batch(lists, encodings, scores)
    # What stands for a model: the sum of a pair's ids.
    found = np.concatenate([(half.ids * half.mask).sum(axis=1) for half in batch.halves])
    at_places = np.zeros(len(found))
    at_places[batch.places] = found
    at_places = at_places.reshape(batch.scores.shape)
    assert sorted(batch.places) == list(range(len(lists) * PASSAGES))
    for row, pairs in enumerate(encodings):
        assert at_places[row, : len(pairs)].tolist() == [sum(pair.ids) for pair in pairs]
        assert batch.present[row].tolist() == [1.0] * len(pairs) + [0.0] * (PASSAGES - len(pairs))


def test_an_epoch_reads_no_list_twice_and_two_seeds_differ(tokenizer: Tokenizer) -> None:
    lists = [_list([1 + n % 30, 3]) for n in range(3 * LISTS_PER_BATCH + 2)]
    scores = [np.array([n, 0.0], np.float32) for n in range(len(lists))]
    encodings = encode_lists(tokenizer, lists)

    def seen(seed: int) -> list[float]:
        made: list[Batch] = list(batches(lists, encodings, scores, np.random.default_rng(seed)))
        return [float(score) for batch in made for score in batch.scores[:, 0]]

    assert len(set(seen(0))) == len(seen(0)) == 3 * LISTS_PER_BATCH
    assert seen(0) == seen(0) != seen(1)
