"""LoCoMo's own facts with the turns that they are from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Observation:
    """A fact that the data's makers wrote down, and the turns that hold it."""

    text: str
    evidence: frozenset[str]


def read_observations(path: Path) -> Mapping[str, Sequence[Observation]]:
    """By conversation. An observation without evidence is left out."""
    return {str(sample["sample_id"]): list(_read(sample)) for sample in json.loads(path.read_text("utf-8"))}


def _read(sample: Mapping[str, Any]) -> Iterator[Observation]:
    for session in sample["observation"].values():
        for told in session.values():
            for text, where in told:
                evidence = frozenset([where] if isinstance(where, str) else where)
                if evidence:
                    yield Observation(text, evidence)
