from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lightmem_client import Kind, Memory, Role, Statement, Tier

from tests.bench import sayings

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def fact(relation: str, said: str, subject: str = sayings.SPEAKER) -> Memory:
    fields: dict[str, Any] = dict.fromkeys(Memory.__dataclass_fields__)
    fields |= {"id": str(uuid.uuid4()), "kind": Kind.FACT, "tier": Tier.LTM, "role": Role.UNSPECIFIED}
    fields |= {"text": said, "occurred_at": NOW, "created_at": NOW, "statement": Statement(subject, relation, said)}
    return Memory(**fields)


HOME = {"relation": "lives_in", "now": "braga", "said": ["I live in Porto.", "We moved to Braga."]}


@pytest.mark.parametrize(
    ("kind", "case", "facts", "is_right"),
    [
        ("holds", HOME, [fact("lives_in", "Braga")], True),
        ("holds", HOME, [fact("lives_in", "Porto")], False),
        ("holds", HOME, [fact("lives_in", "Porto"), fact("lives_in", "Braga")], False),
        ("stays", HOME, [fact("lives_in", "Porto"), fact("lives_in", "Braga")], True),
        ("holds", HOME, [fact("from", "Braga")], False),
        ("none", {"relation": "works_as", "said": [""]}, [fact("works_as", "nurse", "Rosa's wife")], True),
        ("none", {"relation": "works_as", "said": [""]}, [fact("works_as", "nurse")], False),
        ("tells", {"said": [""]}, [], False),
    ],
)
def test_a_case_is_right_when_what_is_known_is_as_it_says(
    kind: str, case: dict[str, Any], facts: list[Memory], is_right: bool
) -> None:
    assert sayings.is_right(kind, case, facts) is is_right


@pytest.mark.models
def test_quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bench" / "sayings.json"
    monkeypatch.setattr(sayings, "RESULT_FILE", path)
    assert sayings.main(["--quick"]) == 0
    figures = json.loads(path.read_text())["figures"]
    assert {name: made["of"] for name, made in figures.items()} == {
        "holds, seen": 2,
        "holds, unseen": 0,
        "none": 2,
        "stays": 2,
        "tells": 2,
    }
