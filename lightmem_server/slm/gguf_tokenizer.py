"""A tokenizer.json out of the vocabulary that a GGUF file carries.

GGUF names its pre-tokenizer instead of describing it; the two here are those of the Writers in the manifest, as their
authors' tokenizer.json have them. Another is refused: a text cut in other places still gives tokens, and a worse model,
without any error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from lightmem_server.errors import ModelError

CONTROL, USER_DEFINED = 3, 4
"""Values of tokenizer.ggml.token_type for tokens that no text may make by itself."""

QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_tokenizer(fields: Mapping[str, Any]) -> Tokenizer:
    """Build the byte-level BPE tokenizer of a GGUF's `tokenizer.ggml.*` fields.

    Raises:
        ModelError: Another kind of tokenizer, or fields are missing.
    """
    try:
        kind, pre = fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]
        tokens: Sequence[str] = fields["tokenizer.ggml.tokens"]
        types: Sequence[int] = fields["tokenizer.ggml.token_type"]
        merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    except KeyError as error:
        raise ModelError(f"the GGUF file has no {error.args[0]}") from error
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        known = ", ".join(_PRE_TOKENIZERS)
        raise ModelError(f"the GGUF's tokenizer {kind}/{pre} is none that can be converted: gpt2/{{{known}}}")
    tokenizer = Tokenizer(models.BPE(vocab={token: id_ for id_, token in enumerate(tokens)}, merges=merges))
    normalizer, pre_tokenizer = _PRE_TOKENIZERS[pre]
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, type_ in zip(tokens, types, strict=True)
            if type_ in (CONTROL, USER_DEFINED)
        ]
    )
    return tokenizer


_PRE_TOKENIZERS: Mapping[str, tuple[normalizers.Normalizer | None, pre_tokenizers.PreTokenizer]] = {
    "qwen2": (
        normalizers.NFC(),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    ),
    "smollm": (
        None,
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
    ),
}
