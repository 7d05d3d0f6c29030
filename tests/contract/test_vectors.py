"""The contract vectors hold for the Python client, and say what the server answers now."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.contract.vector_cases import files
from tests.contract.vector_play import FOLDER, SERVICES, Json, MismatchError, Names, Outcome, Player, read_vectors
from tests.contract.vector_record import Recorder, record
from tests.contract.vector_requests import admin
from tests.server_process import ServerProcess

VECTORS = dict(read_vectors())


@pytest.fixture(scope="module")
def player(server: ServerProcess) -> Iterator[Player]:
    player = Player(server.address, server.key)
    yield player
    player.close()


@pytest.mark.parametrize("name", VECTORS)
def test_vector_holds(player: Player, name: str) -> None:
    player.play(VECTORS[name])


@pytest.mark.parametrize("name", files())
def test_vectors_are_up_to_date(player: Player, name: str) -> None:
    """`make vectors` writes them."""
    assert (FOLDER / f"{name}.json").read_text("utf-8") == record(player, files()[name])


def test_a_page_token_is_recorded_as_one_also_where_it_is_the_id_of_a_key_made_before() -> None:
    names = Names(run="run")
    recorder = Recorder(names)
    made = admin("CreateKey", {"key": {"label": "listed"}})
    listed = admin("ListKeys", {"pageSize": 1})
    (response,) = recorder.expect(made, Outcome([{"key": {"keyId": "abc"}, "secret": "lm_abc_1"}], None))["responses"]
    assert response["key"]["keyId"] == {"$capture": "keyId1"}
    (page,) = recorder.expect(listed, Outcome([{"keys": [{"keyId": "abc"}], "nextPageToken": "abc"}], None))[
        "responses"
    ]
    assert page["nextPageToken"] == {"$capture": "nextPageToken1"}
    assert names.captured["nextPageToken1"] == "abc"


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(files())


def test_every_method_has_a_vector_that_succeeds() -> None:
    played = {step["call"] for vector in VECTORS.values() for step in vector["steps"] if "error" not in step}
    methods = {
        f"{service.full_name}/{method.name}"
        for file in SERVICES
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert methods - played == set()


NAMES = Names(run="run", captured={"id1": "abc"})


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ({"$fresh": "ann"}, "ann-run"),
        ({"$ref": "id1"}, "abc"),
        ({"text": {"$repeat": "ab", "count": 3}}, {"text": "ababab"}),
        ([{"$repeat": {"id": {"$ref": "id1"}}, "count": 2}], [{"id": "abc"}, {"id": "abc"}]),
        ([1, "a", None, True], [1, "a", None, True]),
    ],
)
def test_placeholders_are_filled_in(value: Json, resolved: Json) -> None:
    assert NAMES.resolve(value) == resolved


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("a", "a"),
        (1, 1.0),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([{"$any": "string"}], [""]),
        ({"$any": "number"}, "-12"),
        ({"$any": "number"}, 0.5),
        ({"$any": "time"}, "2024-05-08T09:00:00.5Z"),
        ({"$any": "duration"}, "0.003s"),
        ({"$ref": "id1"}, "abc"),
        ({"$fresh": "ann"}, "ann-run"),
    ],
    ids=json.dumps,
)
def test_what_is_expected_matches(expected: Json, actual: Json) -> None:
    NAMES.match(expected, actual)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("a", "b"),
        (True, 1),
        (0, None),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, [1]),
        ([1], [1, 2]),
        ([1, 2], [2, 1]),
        ([], None),
        ({"$any": "number"}, True),
        ({"$any": "number"}, "1s"),
        ({"$any": "time"}, "now"),
        ({"$any": "duration"}, 3),
        ({"$any": "list"}, {}),
        ({"$ref": "id1"}, "abcd"),
        ({"$fresh": "ann"}, "ann"),
        ({"$capture": "id2"}, ""),
    ],
    ids=json.dumps,
)
def test_what_is_not_expected_does_not_match(expected: Json, actual: Json) -> None:
    with pytest.raises(MismatchError):
        NAMES.match(expected, actual)


def test_a_step_that_should_fail_and_does_not_is_a_mismatch(player: Player) -> None:
    step = {
        "call": "lightmem.v1.AdminService/GetStats",
        "requests": [{}],
        "responses": [],
        "error": {"status": "ABORTED", "reason": ""},
    }
    with pytest.raises(MismatchError, match="succeeded"):
        player.play({"steps": [step]})
