"""The words that the rules know, from english.toml: another language is another file, and other rules of grammar."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any


def _read() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("english.toml").read_text("utf-8"))


_DATA = _read()

LEXICON: dict[str, frozenset[str]] = {
    name: frozenset(words.split()) for name, words in _DATA.items() if isinstance(words, str)
}
"""Sets of words by what they do."""

TABLES: dict[str, dict[str, str]] = {name: words for name, words in _DATA.items() if isinstance(words, dict)}
"""Forms by what they stand for."""

PASTS = frozenset(
    form
    for forms in TABLES["irregular"].values()
    for form in forms.split()
    if not form.endswith(("ing", "es", "ren", "ic"))
) | {"had"}
"""Past forms of irregular verbs."""
