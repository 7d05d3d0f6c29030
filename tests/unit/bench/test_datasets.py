from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lightmem_client import Role

from tests.bench.datasets import DataError, digest, read_jsonl, read_locomo, take_quick, take_sample


def write_locomo(path: Path, *, evidence: list[list[str]]) -> Path:
    sample = {
        "sample_id": "made-up",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bob",
            "session_2_date_time": "12:05 am on 1 June, 2023",
            "session_2": [{"speaker": "Bob", "dia_id": "D2:1", "text": "Back again"}],
            "session_10_date_time": "9:30 pm on 2 July, 2023",
            "session_10": [
                {"speaker": "Ann", "dia_id": "D10:1", "text": "Look", "blip_caption": "a boat on a lake"},
                {"speaker": "Ann", "dia_id": "D10:2", "text": "", "blip_caption": "a cat"},
            ],
            "session_11_date_time": "9:30 pm on 3 July, 2023",
        },
        "qa": [
            {"question": f"question {i}", "answer": i, "evidence": ids, "category": i % 5 + 1}
            for i, ids in enumerate(evidence)
        ],
    }
    path.write_text(json.dumps([sample]), "utf-8")
    return path


def write_jsonl(folder: Path, conversations: list[Any], questions: list[Any]) -> Path:
    for name, items in (("conversations", conversations), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(item) for item in items) + "\n\n", "utf-8")
    return folder


def dialogue(name: str, turns: int, started_at: str = "2024-05-08T13:56:00+02:00") -> dict[str, Any]:
    said = [{"turn_id": f"t{i}", "speaker": "Ann", "role": "user", "text": f"turn {i}"} for i in range(turns)]
    session = {"session_id": "s1", "started_at": started_at, "turns": said}
    return {"conversation_id": name, "speakers": ["Ann"], "sessions": [session]}


def question(name: str, conversation: str, evidence: list[str], category: object = 1) -> dict[str, Any]:
    return {
        "question_id": name,
        "conversation_id": conversation,
        "question": f"{name}?",
        "answer": "x",
        "category": category,
        "evidence": evidence,
    }


def test_locomo_sessions_are_in_the_order_of_their_numbers_with_their_times(tmp_path: Path) -> None:
    (conversation,) = read_locomo(write_locomo(tmp_path / "l.json", evidence=[["D2:1"]]))
    assert [session.session_id for session in conversation.sessions] == ["session_2", "session_10"]
    assert [(turn.turn_id, turn.speaker) for turn in conversation.turns] == [
        ("D2:1", "Bob"),
        ("D10:1", "Ann"),
        ("D10:2", "Ann"),
    ]
    times = [turn.occurred_at for turn in conversation.turns]
    assert times[0] == datetime(2023, 6, 1, 0, 5, tzinfo=UTC)
    assert times[1] == datetime(2023, 7, 2, 21, 30, tzinfo=UTC)
    assert times[2] > times[1]
    assert conversation.asked_at == datetime(2023, 7, 3, 21, 30, tzinfo=UTC)


def test_locomo_images_are_told_by_their_caption(tmp_path: Path) -> None:
    (conversation,) = read_locomo(write_locomo(tmp_path / "l.json", evidence=[["D2:1"]]))
    assert [turn.text for turn in conversation.turns] == [
        "Back again",
        "Look [shares an image: a boat on a lake]",
        "[shares an image: a cat]",
    ]


def test_evidence_that_names_no_turn_is_dropped_and_so_are_questions_without_any(tmp_path: Path) -> None:
    path = write_locomo(tmp_path / "l.json", evidence=[["D2:1", "D9:9", "D2:1"], ["D9:9"], [], ["D10:2"]])
    (conversation,) = read_locomo(path)
    assert [question.evidence for question in conversation.questions] == [{"D2:1"}, {"D10:2"}]
    assert [question.category for question in conversation.questions] == ["1", "4"]


@pytest.mark.parametrize("content", ["[{}]", "nonsense", "{}", '[{"conversation": 1}]', "5"])
def test_what_is_not_locomo_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "l.json"
    path.write_text(content, "utf-8")
    if content == "{}":
        assert read_locomo(path) == []
    else:
        with pytest.raises(DataError, match="is not LoCoMo"):
            read_locomo(path)


def test_jsonl_set_is_read(tmp_path: Path) -> None:
    questions = [question("q1", "c1", ["t2"]), question("q2", "c2", ["t0"], "temporal")]
    write_jsonl(tmp_path, [dialogue("c1", 3), dialogue("c2", 1, "2024-01-01T00:00:00")], questions)
    first, second = read_jsonl(tmp_path)
    assert [turn.text for turn in first.turns] == ["turn 0", "turn 1", "turn 2"]
    assert next(first.turns).role is Role.USER
    assert next(first.turns).occurred_at == datetime(2024, 5, 8, 11, 56, tzinfo=UTC)
    assert next(second.turns).occurred_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert [(one.question_id, one.category) for one in (*first.questions, *second.questions)] == [
        ("q1", "1"),
        ("q2", "temporal"),
    ]


@pytest.mark.parametrize(
    ("conversations", "questions"),
    [
        ([{"conversation_id": "c"}], []),
        ([dialogue("c", 0)], []),
        ([dialogue("c", 1)], [question("q", "other", ["t0"])]),
        ([dialogue("c", 1)], [{"question": "?"}]),
        ([dialogue("c", 1, "yesterday")], []),
    ],
    ids=["no sessions", "no turns", "unknown conversation", "no id", "no time"],
)
def test_jsonl_in_another_layout_is_refused(tmp_path: Path, conversations: list[Any], questions: list[Any]) -> None:
    with pytest.raises(DataError):
        read_jsonl(write_jsonl(tmp_path, conversations, questions))


def test_turn_id_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    twice = dialogue("c", 2)
    twice["sessions"].append(twice["sessions"][0])
    with pytest.raises(DataError, match="occurs twice"):
        read_jsonl(write_jsonl(tmp_path, [twice], []))


def test_samples_are_the_same_for_a_seed_and_keep_conversations_whole(tmp_path: Path) -> None:
    questions = [question(f"{c}{i}", c, ["t0"]) for c in ("a", "b") for i in range(20)]
    conversations = read_jsonl(write_jsonl(tmp_path, [dialogue("a", 9), dialogue("b", 5)], questions))
    first, again, other = (take_sample(conversations, 10, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert sum(len(conversation.questions) for conversation in first) == 10
    assert {sum(1 for _ in conversation.turns) for conversation in first} <= {9, 5}
    assert sum(len(conversation.questions) for conversation in take_sample(conversations, 999, seed=0)) == 40


def test_quick_takes_the_shortest_conversation_that_is_asked_about(tmp_path: Path) -> None:
    questions = [question(f"{c}{i}", c, ["t0"]) for c in ("a", "b") for i in range(20)]
    conversations = read_jsonl(write_jsonl(tmp_path, [dialogue("a", 9), dialogue("b", 5), dialogue("c", 1)], questions))
    (quick,) = take_quick(conversations, 4)
    assert quick.conversation_id == "b"
    assert [one.question_id for one in quick.questions] == ["b0", "b5", "b10", "b15"]


def test_digest_covers_both_files(tmp_path: Path) -> None:
    before = digest(write_jsonl(tmp_path, [dialogue("a", 1)], []))
    assert digest(write_jsonl(tmp_path, [dialogue("a", 1)], [question("q", "a", ["t0"])])) != before
