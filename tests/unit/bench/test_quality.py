"""The quality bench against a gRPC peer: that it asks, matches and judges rightly, not how good anything is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.python.tests.peer import KEY, Peer
from tests.bench import quality
from tests.unit.bench.test_datasets import dialogue, question, write_jsonl


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


@pytest.fixture(autouse=True)
def result_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "target" / "quality.json"
    monkeypatch.setattr(quality, "RESULT_FILE", path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    conversations = [dialogue("a", 30), dialogue("b", 12)]
    for conversation in conversations:
        for turn in conversation["sessions"][0]["turns"]:
            turn["text"] = f"{turn['turn_id']} {conversation['conversation_id']} said"
    questions = [
        {**question(f"{name}{i}", name, [f"t{i}"], i % 5 + 1), "question": f"t{i}"}
        for name in ("a", "b")
        for i in range(10)
    ]
    return write_jsonl(folder, conversations, questions)


def run(peer: Peer, data: Path, *arguments: str) -> int:
    return quality.main(["--layout", "jsonl", str(data), "--target", peer.target, "--key", KEY, *arguments])


def test_whole_run_reports_and_judges(peer: Peer, data: Path, result_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    assert run(peer, data, "--json", str(copy)) == 0
    result = json.loads(result_file.read_text())
    assert result == json.loads(copy.read_text())
    assert set(result) == {"machine", "commit", "settings", "figures", "targets"}
    assert result["figures"]["all"] == {
        "recall_at_5": 1.0,
        "recall_at_10": 1.0,
        "recall_at_20": 1.0,
        "recall_at_50": 1.0,
        "hit_at_1": 1.0,
        "mrr": 1.0,
        "questions": 20,
    }
    assert result["targets"]["mrr"] == {"value": 1.0, "bar": 0.57, "ok": True}
    assert {"category_1", "category_5", "categories_1_4", "stages"} <= set(result["figures"])
    assert set(result["figures"]["stages"]) == {"embed", "coarse", "select", "server", "end_to_end"}
    assert result["settings"]["turns"] == 42
    assert result["settings"]["models"] == {"embedder": "words/1"}


def test_each_conversation_is_a_user_of_its_own(peer: Peer, data: Path) -> None:
    run(peer, data, "--no-deep")
    assert sorted(len(memories) for memories in peer.memories.values()) == [12, 30]
    run(peer, data, "--no-deep")
    assert len(peer.memories) == 4  # a second run on the same server is not mixed with the first


def test_default_pass_leaves_the_budget_to_the_server_and_deep_pass_does_not(peer: Peer, data: Path) -> None:
    run(peer, data, "--no-deep")
    request = peer.requests["Retrieve"]
    assert not request.HasField("budget")
    assert request.selector_mode == 0
    assert request.asked_at.ToDatetime().isoformat() == "2024-05-09T11:56:00"
    run(peer, data)
    budget = peer.requests["Retrieve"].budget
    assert (budget.max_memories, budget.max_candidates, budget.deadline.seconds) == (50, 100, 10)


def test_missed_bar_fails_a_whole_run_but_not_a_sample(peer: Peer, data: Path, result_file: Path) -> None:
    questions = (data / "questions.jsonl").read_text().replace('"question": "t', '"question": "nothing')
    (data / "questions.jsonl").write_text(questions)
    assert run(peer, data) == 1
    assert json.loads(result_file.read_text())["targets"]["mrr"]["ok"] is False
    assert run(peer, data, "--sample", "5") == 0
    assert json.loads(result_file.read_text())["targets"] == {}
    assert run(peer, data, "--quick") == 0


def test_quick_asks_little_of_one_conversation(peer: Peer, data: Path, result_file: Path) -> None:
    run(peer, data, "--quick")
    result = json.loads(result_file.read_text())
    assert result["figures"]["all"]["questions"] == quality.QUICK_QUESTIONS
    assert [len(memories) for memories in peer.memories.values()] == [12]


def test_absent_data_is_skipped_loudly(tmp_path: Path, capsys: pytest.CaptureFixture[str], result_file: Path) -> None:
    assert quality.main(["--data", str(tmp_path / "none.json")]) == 0
    assert capsys.readouterr().err.startswith("SKIPPED: there is no data at")
    assert not result_file.exists()


def test_data_in_another_layout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "l.json"
    path.write_text("nonsense")
    assert quality.main(["--data", str(path)]) == 2
    assert "is not LoCoMo" in capsys.readouterr().err
