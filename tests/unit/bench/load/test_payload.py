from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.load.payload import STRIDE, make_payload
from tests.bench.load.scenario import Scenario, ScenarioError

LINES = """{"text": "I moved to Lisbon", "speaker": "Ana", "session_id": "s"}

{"query": "Where does Ana live?"}
{"text": "My sister bakes bread"}
{"query": "Who bakes?"}
"""


def scenario(**payload: object) -> Scenario:
    values = {"name": "x", "users": 3, "turns_per_second": 2, "retrieves_per_second": 1, "payload": payload}
    return Scenario.model_validate(values)


def test_made_dialogues_are_those_of_the_seed_and_each_user_has_its_own() -> None:
    said = make_payload(scenario(told_turns=5))
    assert said.turns == make_payload(scenario(told_turns=5)).turns
    told = [[turn.text for turn in said.told(user)] for user in range(2)]
    assert [len(one) for one in told] == [5, 5]
    assert not set(told[0]) & set(told[1])
    assert said.turn(0, 0)[1] == said.turns[5]  # goes on where the told ones end
    assert said.turn(1, 2)[1] == said.turns[STRIDE + 7]


def test_sessions_change_as_a_user_goes_on() -> None:
    said = make_payload(scenario())
    assert [said.turn(0, number)[0] for number in (0, 23, 24)] == ["load-0", "load-0", "load-1"]


def test_users_ask_about_what_they_were_told() -> None:
    said = make_payload(scenario(told_turns=50))
    told = [turn.text for turn in said.told(1)]
    for number in range(20):
        words = said.query(1, number).removeprefix("What was said about ").removesuffix("?").split(", ")
        assert any(all(word in text for word in words) for text in told)


def test_a_file_gives_turns_and_questions(tmp_path: Path) -> None:
    (tmp_path / "turns.jsonl").write_text(LINES, "utf-8")
    said = make_payload(scenario(file=tmp_path / "turns.jsonl", told_turns=3))
    assert [turn.text for turn in said.told(0)] == ["I moved to Lisbon", "My sister bakes bread", "I moved to Lisbon"]
    assert said.turns[0].speaker == "Ana"
    assert {said.query(0, number) for number in range(4)} == {"Where does Ana live?", "Who bakes?"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"}\nnonsense\n', "line 2"),
        ('{"query": "q"}\n{"text": 3}\n', "line 2: text is not text"),
        ('{"query": "q"}\n', "has no turns"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(ScenarioError, match=message):
        make_payload(scenario(file=path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot read"):
        make_payload(scenario(file=tmp_path / "none"))
