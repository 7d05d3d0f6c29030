"""Counts tokens: as our own models do, or as the agent's LLM does, given its tokenizer's file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sentencepiece
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from lightmem_server.errors import ModelError
from lightmem_server.slm.digests import ByDigest
from lightmem_server.slm.protocols import TokenCounter

INLINE_CHARACTERS = 1000
"""Up to so many a text is tokenised on the event loop: 0.2 ms, about what handing it to a thread and back costs."""


CHARACTERS_PER_TOKEN = 16
"""A text is cut to so many characters per token of the longest input before it is tokenised, which bounds the time that a
huge text takes. Words have about 5 per token; more have only runs of blanks and words that no vocabulary knows."""


REMEMBERED_LINES = 8192
"""Lines whose counts are kept: 1 MB. An answer's lines are counted one by one and then together, and those of hot memories
again and again. `make bench-latency ARGS="--parts off"`, which asks one user: stage pack 3.1 ms at p50, 0.4 with this."""


class JsonTokenCounter:
    """A TokenCounter on a Hugging Face tokenizer. Belongs to one thread, such as the event loop's."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Args:
            tokenizer: Not shared: must neither truncate nor pad.
        """
        self._tokenizer = tokenizer
        self._is_by_line = _counts_by_line(tokenizer)
        self._count_line = ByDigest(self._count, most=REMEMBERED_LINES)

    def count(self, text: str) -> int:
        """See TokenCounter."""
        if not self._is_by_line:
            return self._count(text)
        return sum(self._count_line(line) for line in text.split("\n") if line)

    def _count(self, text: str) -> int:
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return len(encoding)


def _counts_by_line(tokenizer: Tokenizer) -> bool:
    """Whether a text has as many tokens as its lines together: so it is with BERT's, to which a line feed is a blank between
    words; not with those that make tokens of blanks, as most LLMs' do."""
    return (
        isinstance(tokenizer.model, WordPiece)
        and isinstance(tokenizer.normalizer, BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        and not any("\n" in token.content for token in tokenizer.get_added_tokens_decoder().values())
    )


class SentencePieceCounter:
    """A TokenCounter on a SentencePiece model."""

    def __init__(self, processor: sentencepiece.SentencePieceProcessor) -> None:
        self._processor = processor

    def count(self, text: str) -> int:
        """See TokenCounter."""
        return len(self._processor.encode(text))


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer.json, without the truncation and padding that the file may ask for.

    Raises:
        ModelError: Missing or not such a file.
    """
    if not path.is_file():
        raise ModelError(f"there is no tokenizer file {path}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the binding raises bare Exception for every malformed file: that class, no other
        if type(error) is not Exception:
            raise
        raise ModelError(f"{path} is not a tokenizer.json: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_token_counter(path: Path) -> TokenCounter:
    """A counter from a file: `*.model` is SentencePiece's, anything else a tokenizer.json. Blocking.

    Raises:
        ModelError: Missing or not such a file.
    """
    if path.suffix != ".model":
        return JsonTokenCounter(load_tokenizer(path))
    if not path.is_file():
        raise ModelError(f"there is no tokenizer file {path}")
    try:
        return SentencePieceCounter(sentencepiece.SentencePieceProcessor(model_file=str(path)))
    except (RuntimeError, OSError) as error:
        raise ModelError(f"{path} is not a SentencePiece model: {error}") from error


class InputTokenizer:
    """Makes a model's inputs of texts, cut to its longest input. Tokenising long texts doesn't block the event loop."""

    def __init__(self, tokenizer: Tokenizer, executor: ThreadPoolExecutor, *, max_tokens: int) -> None:
        """Use load_input_tokenizer."""
        self._tokenizer = tokenizer
        self._max_characters = max_tokens * CHARACTERS_PER_TOKEN
        self._executor = executor

    async def encode(self, inputs: Sequence[str] | Sequence[tuple[str, str]]) -> list[Encoding]:
        """One encoding per text or pair of texts, special tokens included, not padded."""
        characters = sum(len(text) if isinstance(text, str) else len(text[0]) + len(text[1]) for text in inputs)
        if characters <= INLINE_CHARACTERS:
            return self.encode_blocking(inputs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.encode_blocking, inputs)

    def encode_blocking(self, inputs: Sequence[str] | Sequence[tuple[str, str]]) -> list[Encoding]:
        """As encode, in the calling thread."""
        return self._tokenizer.encode_batch([self._cut(text) for text in inputs])

    def _cut(self, text: str | tuple[str, str]) -> str | tuple[str, str]:
        end = self._max_characters
        return text[:end] if isinstance(text, str) else (text[0][:end], text[1][:end])

    async def close(self) -> None:
        """Wait for its thread. May be called twice."""
        await asyncio.to_thread(self._executor.shutdown)


def load_input_tokenizer(path: Path, *, max_tokens: int) -> InputTokenizer:
    """Blocking.

    Args:
        path: A tokenizer.json.
        max_tokens: Longest input; of a pair the longer text is cut first.

    Raises:
        ModelError: Missing or not such a file.
    """
    tokenizer = load_tokenizer(path)
    tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    return InputTokenizer(tokenizer, ThreadPoolExecutor(1, thread_name_prefix="tokenizer"), max_tokens=max_tokens)
