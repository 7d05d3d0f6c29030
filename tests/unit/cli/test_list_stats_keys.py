from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result

from clients.python.tests.peer import Peer

Run = Callable[..., Result]


def test_list_is_newest_first_and_bounded(run: Run, peer: Peer) -> None:
    for number in range(4):
        run("add", f"turn {number}", "-u", "ann", "-s", "s1")
    lines = run("list", "-u", "ann", "-n", "3").stdout.splitlines()
    assert lines[0].split() == ["id", "tier", "kind", "said", "session", "speaker", "text"]
    assert [line.split()[-1] for line in lines[1:]] == ["3", "2", "1"]
    assert peer.requests["ListMemories"].page_size == 3


def test_list_as_json_is_one_object_a_line(run: Run) -> None:
    for number in range(3):
        run("add", f"turn {number}", "-u", "ann")
    lines = run("list", "-u", "ann", "-n", "0", "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["turn 2", "turn 1", "turn 0"]


def test_list_filters_reach_the_server(run: Run, peer: Peer) -> None:
    run("list", "-u", "ann", "-s", "a", "-s", "b", "--archived")
    request = peer.requests["ListMemories"]
    assert (list(request.filter.session_ids), request.filter.include_archived) == (["a", "b"], True)


def test_empty_list_says_so(run: Run) -> None:
    assert run("list", "-u", "nobody").stdout == "no memories\n"
    assert run("list", "-u", "nobody", "--json").stdout == ""


def test_a_url_is_no_target(run: Run) -> None:
    result = run("list", "-u", "ann", "--target", "http://localhost:7420")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: target: takes HOST:PORT, not http://localhost:7420"


def test_stats_for_people_and_programs(run: Run, peer: Peer) -> None:
    run("add", "x", "-u", "ann")
    shown = run("stats").stdout
    for expected in ("MTM", "4.0 KiB", "words", "0:01:30"):
        assert expected in shown
    printed = json.loads(run("stats", "--json", "-u", "ann").stdout)
    assert printed["counts"] == [{"tier": "MTM", "kind": "TURN", "active_count": 1, "archived_count": 0}]
    assert peer.requests["GetStats"].user_id == "ann"


def test_key_is_made_listed_and_revoked(run: Run) -> None:
    made = run("keys", "create", "--label", "app", "-u", "ann", "-u", "bob")
    assert made.stdout == "lm_k0_secret\n"
    listed = run("keys", "list").stdout.splitlines()[1].split()
    assert (listed[0], listed[1], listed[-1]) == ("k0", "agent", "app")
    assert "good" in listed
    assert run("keys", "revoke", "k0").stdout == "key k0 is revoked\n"
    assert "revoked" in run("keys", "list").stdout
    assert json.loads(run("keys", "list", "--json").stdout)[0]["user_ids"] == ["ann", "bob"]


def test_no_keys_says_so(run: Run) -> None:
    assert run("keys", "list").stdout == "no keys\n"
    assert run("keys", "list", "--json").stdout == "[]\n"


def test_key_is_rotated(run: Run, peer: Peer) -> None:
    run("keys", "create", "--label", "app", "-u", "ann")
    made = run("keys", "rotate", "k0", "--overlap", "1.5")
    assert made.stdout == "lm_k1_secret\n"
    assert peer.requests["RotateKey"].overlap.seconds == 5400
    assert json.loads(run("keys", "list", "--json").stdout)[1]["user_ids"] == ["ann"]
    assert run("keys", "rotate", "nobody").exit_code == 3


def test_namespace_of_keys_reaches_the_server(run: Run, peer: Peer) -> None:
    run("keys", "create", "--namespace", "tenant")
    assert peer.requests["CreateKey"].key.namespace == "tenant"
    run("keys", "list", "--namespace", "tenant")
    assert peer.requests["ListKeys"].namespace == "tenant"
