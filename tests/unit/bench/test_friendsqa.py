"""FriendsQA in both of its forms."""

import gzip
import json
from pathlib import Path

import pytest

from tests.bench.datasets import DataError
from tests.bench.friendsqa import read_friendsqa

LINES = [
    {
        "question_id": f"{scene}_What",
        "group": scene,
        "question": "What is it?",
        "candidates": ["Ann Lee: It's tea: green.", "Ben: Oh."],
        "positives": positives,
    }
    for scene, positives in (("s02_e01_c01", [0]), ("s01_e02_c10", [0, 1]), ("s01_e02_c02", []))
]


def published(folder: Path) -> Path:
    scene = {
        "title": "s01_e01_c00",
        "paragraphs": [
            {
                "utterances:": [
                    {"uid": 0, "speakers": ["Ann"], "utterance": "You 're gon na like it , I ca n't wait ( really ) !"},
                    {"uid": 1, "speakers": ["Ann", "Ben"], "utterance": "Yes ."},
                ],
                "qas": [
                    {"id": "q1", "question": "Who 's waiting ?", "answers": [{"utterance_id": 0}, {"utterance_id": 0}]},
                    {"id": "q2", "question": "Why ?", "answers": []},
                ],
            }
        ],
    }
    (folder / "friendsqa_dev.json").write_text(json.dumps({"data": [scene]}))
    return folder


def test_each_season_is_a_user_and_each_scene_a_session_in_order(tmp_path: Path) -> None:
    path = tmp_path / "friendsqa.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(line) for line in LINES).encode()))
    first, second = read_friendsqa(path)
    assert (first.conversation_id, second.conversation_id) == ("s01", "s02")
    assert [session.session_id for session in first.sessions] == ["s01_e02_c02", "s01_e02_c10"]
    starts = [session.turns[0].occurred_at for session in first.sessions]
    assert (starts[1] - starts[0]).days == 1
    assert [(turn.speaker, turn.text) for turn in second.turns] == [("Ann Lee", "It's tea: green."), ("Ben", "Oh.")]


def test_questions_without_evidence_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "friendsqa.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in LINES))
    (question,) = read_friendsqa(path)[0].questions
    assert question.evidence == {"s01_e02_c10/0", "s01_e02_c10/1"}


def test_the_published_form_is_read_as_people_write(tmp_path: Path) -> None:
    (conversation,) = read_friendsqa(published(tmp_path))
    assert [(turn.speaker, turn.text) for turn in conversation.turns] == [
        ("Ann", "You're gonna like it, I can't wait (really)!"),
        ("Ann and Ben", "Yes."),
    ]
    (question,) = conversation.questions
    assert (question.text, question.evidence) == ("Who's waiting?", {"s01_e01_c00/0"})


@pytest.mark.parametrize("content", ["{}", "no json", ""], ids=["other", "broken", "empty"])
def test_what_is_something_else_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "friendsqa.jsonl"
    path.write_text(content)
    with pytest.raises(DataError):
        read_friendsqa(path)
