"""Words of English text as the rules of consolidation compare them: sentences, stems, content words, numbers, names."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import snowballstemmer

from lightmem_server.pipeline.consolidation.lexicon import LEXICON, TABLES

_WORD = re.compile(r"\d+(?:[.,:]\d+)*(?:st|nd|rd|th)?(?![^\W_])|[^\W_]+(?:['\u2019][^\W\d_]+)*")
_SENTENCE = re.compile(
    r"(?:[^.!?\n]|\.(?=\w)|(?<=\b[A-Z])\.|(?<=\bDr|\bMr|\bMs|\bSt)\.|(?<=\bMrs)\.)+[.!?\u2026]*[\"\u201d')]*|[.!?]+"
)
_CONTRACTION = re.compile(r"(?:['\u2019](?:m|re|ve|ll|d|s))+$", re.IGNORECASE)
_NEGATION = re.compile(r"n['\u2019]t$", re.IGNORECASE)

STOP_WORDS = LEXICON["stop_words"]
"""Words that assert nothing alone."""

_IRREGULAR = {form: base for base, forms in TABLES["irregular"].items() for form in forms.split()}

_NUMBER_WORDS = {word: number for number, words in TABLES["numbers"].items() for word in words.split()}

_stemmer = snowballstemmer.stemmer("english")
_stemmer_lock = threading.Lock()  # a stemmer holds the word that it works on


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it stands. `key` is what it is compared by."""

    text: str
    start: int
    end: int

    @property
    def lower(self) -> str:
        """In lower case, with a straight apostrophe."""
        return self.text.lower().replace("\u2019", "'")

    @property
    def base(self) -> str:
        """In lower case, without a contracted verb or a possessive: "I'm" → "i"."""
        return _CONTRACTION.sub("", self.lower)

    @property
    def key(self) -> str:
        """The stem; of an irregular form that of its base form; of a number its digits."""
        return stem(self.base)

    @property
    def is_content(self) -> bool:
        """Whether it asserts something."""
        return self.base not in STOP_WORDS and not _NEGATION.search(self.lower)

    @property
    def is_negation(self) -> bool:
        """Whether it denies."""
        return bool(_NEGATION.search(self.lower)) or self.lower in _NEGATIONS

    @property
    def is_hypothetical(self) -> bool:
        """Whether it says what might be, or would be; the month of May does not."""
        return (self.base in HYPOTHETICAL or self.lower in HYPOTHETICAL) and self.text != "May"

    @property
    def is_number(self) -> bool:
        """Whether it is a number, in digits or in words."""
        return self.text[0].isdigit() or self.lower in _NUMBER_WORDS

    @property
    def is_capitalised(self) -> bool:
        """Whether it begins with a capital letter, and is not "I"."""
        return self.text[0].isupper() and self.base != "i"


_NEGATIONS = LEXICON["negations"]
HYPOTHETICAL = LEXICON["hypothetical"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a text, and where it stands there."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """Behind its last character."""
        return self.start + len(self.text)

    @property
    def words(self) -> tuple[Word, ...]:
        """Its words; their places are those in the sentence."""
        return split_words(self.text)

    @property
    def is_question(self) -> bool:
        """Whether it asks."""
        return self.text.rstrip("\"\u201d') ").endswith("?")


@functools.lru_cache(maxsize=4096)
def split_words(text: str) -> tuple[Word, ...]:
    """The words of a text, in order."""
    return tuple(Word(match.group(), match.start(), match.end()) for match in _WORD.finditer(text))


@functools.lru_cache(maxsize=1024)
def split_sentences(text: str) -> tuple[Sentence, ...]:
    """The sentences of a text that have words, in order.

    >>> [sentence.text for sentence in split_sentences("Dr. Ott called. Really? Yes")]
    ['Dr. Ott called.', 'Really?', 'Yes']
    """
    found = []
    for match in _SENTENCE.finditer(text):
        stripped = match.group().strip()
        if any(map(str.isalnum, stripped)):
            found.append(Sentence(stripped, match.start() + match.group().index(stripped)))
    return tuple(found)


def ends_with_question(text: str) -> bool:
    """Whether the last sentence of a text asks."""
    sentences = split_sentences(text)
    return bool(sentences) and sentences[-1].is_question


@functools.lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """What words are compared by; `word` in lower case.

    >>> stem("hiking") == stem("hikes"), stem("went") == stem("goes"), stem("two"), stem("7th")
    (True, True, '2', '7')
    """
    if word[:1].isdigit():
        return re.sub(r"(?:st|nd|rd|th)$", "", word).replace(",", "")
    if word in _NUMBER_WORDS:
        return _NUMBER_WORDS[word]
    with _stemmer_lock:
        return str(_stemmer.stemWord(_IRREGULAR.get(word, word)))


def content_keys(text: str) -> frozenset[str]:
    """The keys of the words of a text that assert something."""
    return frozenset(word.key for word in split_words(text) if word.is_content)


def all_keys(texts: Sequence[str]) -> frozenset[str]:
    """The keys of all words of some texts."""
    return frozenset(word.key for text in texts for word in split_words(text))


def proper_names(text: str) -> tuple[Word, ...]:
    """Words that are names: capitalised, and not only because they begin a sentence."""
    found = []
    for sentence in split_sentences(text):
        for place, word in enumerate(sentence.words):
            if word.is_capitalised and place > 0 and word.base not in STOP_WORDS and word.base not in CALENDAR:
                found.append(Word(word.text, word.start + sentence.start, word.end + sentence.start))
    return tuple(found)


CALENDAR = LEXICON["calendar"]
