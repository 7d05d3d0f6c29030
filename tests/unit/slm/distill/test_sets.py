"""Reading the sets: how dialogues are judged, and what is held out."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.distill.sets import HELD_OUT_SEASONS, Part, dialogue_passages, part_of, read_sets

LINE = {
    "question_id": "q",
    "group": "s01_e01_c01",
    "question": "When does Ana move?",
    "candidates": ["Ben: I packed. When do you move?", "Ana: Next Friday!", "Ben: Good."],
    "positives": [1],
}


def write(path: Path, *lines: object) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_a_turn_is_read_behind_the_question_before_it(tmp_path: Path) -> None:
    write(tmp_path / "friendsqa.jsonl.gz", LINE)
    (asked,) = read_sets(tmp_path)
    assert asked.passages[1] == "Ben: When do you move? | Ana: Next Friday!"
    assert asked.positives == {1}
    assert asked.corpus == "friendsqa/s01"
    assert replace(asked, set_name="friendsqa_longer").corpus == "friendsqa_longer/s01", (
        "people of a season know each other"
    )


def test_sentences_of_a_text_stand_alone(tmp_path: Path) -> None:
    write(tmp_path / "selqa.jsonl.gz", {**LINE, "candidates": ["Is it? It is.", "It was."], "positives": []})
    (asked,) = read_sets(tmp_path)
    assert asked.passages == ("Is it? It is.", "It was.")
    assert not asked.positives


def test_turns_without_a_speaker_are_read_too() -> None:
    assert list(dialogue_passages(["Really?", "Yes."])) == ["Really?", "Yes."]


@pytest.mark.parametrize("line", [{"question": "no candidates"}, {**LINE, "candidates": 3}, 7])
def test_what_is_no_set_is_refused_by_its_name(tmp_path: Path, line: object) -> None:
    write(tmp_path / "odd.jsonl.gz", line)
    with pytest.raises(InvalidInputError, match=r"odd\.jsonl\.gz is no set of questions"):
        list(read_sets(tmp_path))


def test_a_folder_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no"):
        list(read_sets(tmp_path))


def test_all_scenes_of_a_held_out_season_are_reported_on() -> None:
    for season in HELD_OUT_SEASONS:
        assert {part_of("friendsqa", f"{season}_e{n:02}_c01") for n in range(30)} == {Part.TEST}
    assert Part.TEST not in {part_of("friendsqa", f"s01_e{n:02}_c01") for n in range(200)}


def test_of_other_sets_a_tenth_is_reported_on_and_a_twentieth_tunes() -> None:
    parts = [part_of("selqa", f"group {n}") for n in range(4000)]
    assert 0.08 < parts.count(Part.TEST) / len(parts) < 0.12
    assert 0.035 < parts.count(Part.TUNE) / len(parts) < 0.065
