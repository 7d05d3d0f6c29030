"""Counts tokens: as our own models do, or as the agent's LLM does, given its tokenizer's file."""

from __future__ import annotations

from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer

from lightmem_server.errors import ModelError
from lightmem_server.slm.protocols import TokenCounter


class JsonTokenCounter:
    """A TokenCounter on a Hugging Face tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Args:
            tokenizer: Not shared: must neither truncate nor pad.
        """
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        """See TokenCounter."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))


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
    except Exception as error:  # the binding raises bare Exception for every malformed file
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
