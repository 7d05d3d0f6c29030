"""Lists as arrays of word pieces. The passages of some lists are one batch; its shorter half and its longer are padded
apart, each to one of a few lengths, so that little is computed for nothing and few shapes are compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from lightmem_server.slm.distill.lists import PASSAGES, ReadList

LENGTHS = (32, 48, 64, 96, 128)
"""What is longer than the last is cut, in training."""

LISTS_PER_BATCH = 8


class Pairs(NamedTuple):
    """n pairs of a query and a passage, padded: three arrays (n, length)."""

    ids: NDArray[np.int32]
    types: NDArray[np.int32]
    mask: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some lists, all padded to PASSAGES passages.

    Attributes:
        halves: Their pairs, parted by length.
        places: (pairs,) where each row of the halves, one after the other, belongs in (lists * PASSAGES).
        scores: (lists, PASSAGES) the teacher's logits.
        labels: The same shape, 1 where a passage answers.
        present: 1 where there is a passage.
    """

    halves: tuple[Pairs, Pairs]
    places: NDArray[np.int32]
    scores: NDArray[np.float32]
    labels: NDArray[np.float32]
    present: NDArray[np.float32]


def encode_lists(tokenizer: Tokenizer, lists: Sequence[ReadList]) -> list[list[Encoding]]:
    """The pairs of each list as word pieces, cut to the longest of LENGTHS."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(LENGTHS[-1])
    flat = tokenizer.encode_batch([(one.question, passage) for one in lists for passage in one.passages])
    ends = np.cumsum([len(one.passages) for one in lists])
    return [flat[end - len(one.passages) : end] for one, end in zip(lists, ends, strict=True)]


def pad(encodings: Sequence[Encoding]) -> Pairs:
    """Encodings to the least of LENGTHS that holds them."""
    longest = max(len(encoding) for encoding in encodings)
    length = next(length for length in LENGTHS if length >= longest)
    ids, types = np.zeros((2, len(encodings), length), np.int32)
    mask = np.zeros((len(encodings), length), np.float32)
    for row, encoding in enumerate(encodings):
        count = len(encoding)
        ids[row, :count], types[row, :count], mask[row, :count] = encoding.ids, encoding.type_ids, 1
    return Pairs(ids, types, mask)


def make_batch(
    lists: Sequence[ReadList], encodings: Sequence[Sequence[Encoding]], scores: Sequence[NDArray[np.float32]]
) -> Batch:
    """A batch of these lists, their pairs and the teacher's logits."""
    shape = (len(lists), PASSAGES)
    teacher, labels, present = np.zeros((3, *shape), np.float32)
    flat: list[Encoding] = []
    places: list[int] = []
    for row, (one, pairs, judged) in enumerate(zip(lists, encodings, scores, strict=True)):
        count = len(one.passages)
        teacher[row, :count], labels[row, :count], present[row, :count] = judged, one.labels, 1
        flat += pairs
        places += range(row * PASSAGES, row * PASSAGES + count)
    # Missing passages are the shortest pair again: each half has the same number of rows in every batch.
    order = sorted(range(len(flat)), key=lambda index: len(flat[index]))
    order = [order[0]] * (shape[0] * shape[1] - len(flat)) + order
    spare = iter(np.flatnonzero(present.ravel() == 0).tolist())
    seen: set[int] = set()
    targets: list[int] = []
    for index in reversed(order):
        targets.append(next(spare) if index in seen else places[index])
        seen.add(index)
    targets.reverse()
    middle = len(order) // 2
    halves = (pad([flat[index] for index in order[:middle]]), pad([flat[index] for index in order[middle:]]))
    return Batch(halves, np.array(targets, np.int32), teacher, labels, present)


def batches(
    lists: Sequence[ReadList],
    encodings: Sequence[Sequence[Encoding]],
    scores: Sequence[NDArray[np.float32]],
    generator: np.random.Generator,
) -> Iterator[Batch]:
    """All lists once in random order, those of like lengths together; what doesn't fill a batch is left out."""
    longest = np.array([max(len(pair) for pair in pairs) for pairs in encodings])
    order = np.argsort(longest + generator.uniform(0, 12, len(longest)))
    groups = order[: len(order) // LISTS_PER_BATCH * LISTS_PER_BATCH].reshape(-1, LISTS_PER_BATCH)
    for group in generator.permutation(groups):
        yield make_batch(
            [lists[index] for index in group],
            [encodings[index] for index in group],
            [scores[index] for index in group],
        )
