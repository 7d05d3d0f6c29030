"""The consolidation bench from its first line to its last, by rules; and that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import consolidate, sheet
from tests.bench.consolidated import sampled_sessions
from tests.bench.datasets import read_jsonl

pytestmark = pytest.mark.models

TURNS = [
    [("Ruth", "I moved to Leuven last month."), ("Omar", "How is it there?"), ("Ruth", "I work as a gardener now.")],
    [("Omar", "I am allergic to walnuts."), ("Ruth", "Good to know! My brother Tim is too."), ("Omar", "Poor him.")],
    [("Ruth", "I live in Ghent again."), ("Omar", "What happened?"), ("Ruth", "The house was too damp.")],
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    sessions = [
        {
            "session_id": f"s{number}",
            "started_at": f"2024-0{number + 1}-10T09:00:00+00:00",
            "turns": [
                {"turn_id": f"D{number}:{place}", "speaker": speaker, "text": text}
                for place, (speaker, text) in enumerate(session)
            ],
        }
        for number, session in enumerate(TURNS)
    ]
    (folder / "conversations.jsonl").write_text(json.dumps({"conversation_id": "c", "sessions": sessions}) + "\n")
    question = {
        "question_id": "q",
        "conversation_id": "c",
        "question": "What is Omar allergic to?",
        "category": "1",
        "evidence": ["D1:0"],
    }
    (folder / "questions.jsonl").write_text(json.dumps(question) + "\n")
    return folder


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "target" / "consolidate.json"
    monkeypatch.setattr(consolidate, "RESULT_FILE", path)
    return path


def bench(data: Path, folder: Path, *more: str) -> int:
    return consolidate.main(
        ["--layout", "jsonl", "--data", str(data), "--writer", "lite", "--folder", str(folder), *more]
    )


def test_it_consolidates_once_and_shows_the_same_again(data: Path, tmp_path: Path, result: Path) -> None:
    folder = tmp_path / "kept"
    assert bench(data, folder) == 0
    first = json.loads(result.read_text())["figures"]
    assert first["abstraction"]["kept"] >= 3
    assert first["abstraction"]["records"]["fact"] >= 3
    assert first["evidence"]["questions"] == 1
    assert first["evidence"]["turns alone"] == first["evidence"]["all memories"] == 1.0
    assert first["evidence"]["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert first["evidence"]["by dialogue"] == {"c": {"turns alone": 1.0, "all memories": 1.0}}
    outcomes = (folder / "outcomes.jsonl").read_bytes()
    for more in ((), ("--show",)):
        assert bench(data, folder, *more) == 0
        assert json.loads(result.read_text())["figures"] == first
    assert (folder / "outcomes.jsonl").read_bytes() == outcomes


def test_the_evidence_is_shown_around_a_budget_and_without_dialogues(data: Path, tmp_path: Path, result: Path) -> None:
    assert bench(data, tmp_path / "kept", "--around") == 0
    told = json.loads(result.read_text())["figures"]["evidence"]
    assert (told["tokens"][0], told["tokens"][-1], told["all memories"]) == (432, 592, 1.0)
    assert bench(data, tmp_path / "kept", "--show", "--without", "c") == 0
    assert "evidence" not in json.loads(result.read_text())["figures"]


def test_only_the_sampled_sessions_are_consolidated(data: Path, tmp_path: Path, result: Path) -> None:
    assert bench(data, tmp_path / "kept", "--sessions", "1", "--seed", "3") == 0
    (conversation,) = read_jsonl(data)
    (chosen,) = sampled_sessions(conversation, 1, seed=3)
    turns = {
        turn.turn_id for session in conversation.sessions if session.session_id == chosen for turn in session.turns
    }
    lines = (tmp_path / "kept" / "outcomes.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert json.loads(result.read_text())["figures"]["abstraction"]["records"]["turn"] == 9
    drawn = tmp_path / "sheet.csv"
    assert sheet.main(["draw", str(drawn), "--folder", str(tmp_path / "kept")]) == 0
    assert {id_ for row in sheet.read_sheet(drawn) for id_ in row.evidence.split()} <= turns


def test_a_larger_sample_holds_the_smaller_one(data: Path) -> None:
    (conversation,) = read_jsonl(data)
    one, two, all_ = (sampled_sessions(conversation, count, seed=5) for count in (1, 2, 0))
    assert one < two < all_


def test_a_sheet_is_drawn_shown_and_holds_nothing_that_was_said(
    data: Path, tmp_path: Path, result: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, drawn = tmp_path / "kept", tmp_path / "sheet.csv"
    assert bench(data, folder) == 0
    assert sheet.main(["draw", str(drawn), "--folder", str(folder)]) == 0
    assert "walnuts" not in drawn.read_text()
    capsys.readouterr()
    assert sheet.main(["show", str(drawn), "--folder", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "Omar is allergic to walnuts" in shown
    assert "<- Omar: I am allergic to walnuts." in shown
