"""LoCoMo's official answer score: the rules of its evaluation script (task_eval/evaluation.py), written anew.

An answer and the gold answer are compared as multisets of stemmed words. Two rules differ by category: answers of category 1
are lists, compared item by item; category 5 asks for what was never said, and the right answer says so. Stems are those of
snowballstemmer's "porter", Porter's algorithm as published; the script takes nltk's, which adds a few rules of its own.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
import snowballstemmer

MULTI_HOP, OPEN_DOMAIN, ADVERSARIAL = "1", "3", "5"
UNANSWERED = ("no information available", "not mentioned")
"""An answer to a question of category 5 is right when it says one of these."""

_ARTICLES = re.compile(r"\b(?:a|an|the|and)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_STEMMER = snowballstemmer.stemmer("porter")


def score(answer: str, gold: str, category: str) -> float:
    """How right an answer is, 0 to 1.

    >>> score("It was not mentioned.", "", "5")
    1.0
    >>> score("tennis", "painting, tennis", "1")
    0.5
    """
    if category == ADVERSARIAL:
        return float(any(words in answer.lower() for words in UNANSWERED))
    if category == MULTI_HOP:
        answers = answer.split(",")
        best = [max(token_f1(one, item) for one in answers) for item in gold.split(",")]
        return math.fsum(best) / len(best)
    return token_f1(answer, gold.partition(";")[0] if category == OPEN_DOMAIN else gold)


def token_f1(answer: str, gold: str) -> float:
    """The harmonic mean of precision and recall of stemmed words, each counted as often as it stands.

    >>> token_f1("in the dogs", "a dog")
    0.6666666666666666
    """
    found, wanted = Counter(stems(answer)), Counter(stems(gold))
    common = (found & wanted).total()
    return 2 * common / (found.total() + wanted.total()) if common else 0.0


def stems(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles, as stems.

    >>> stems("The cat's, and the dogs.")
    ['cat', 'dog']
    """
    bare = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    return [str(stem) for stem in _STEMMER.stemWords(bare.split())]


def bootstrap(values: Sequence[float], *, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of a mean, by drawing the values again with replacement; of paired differences, give those."""
    array = np.asarray(values, np.float64)
    random = np.random.default_rng(seed)
    means = array[random.integers(0, len(array), (draws, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
