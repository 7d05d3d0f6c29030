from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from lightmem_client.pb import memory_service_pb2 as pb

from clients.python.tests.peer import Peer
from lightmem_server.cli.options import ExitCode

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _memories(run: Run, peer: Peer) -> None:
    run("add", "I moved to Rome", "-u", "ann", "--speaker", "Ann", "--at", "2024-05-08T13:56Z")
    run("add", "we moved on", "-u", "ann", "--speaker", "Bob", "--at", "2024-05-09T13:56Z")


def test_answer_is_a_table_with_its_cost(run: Run) -> None:
    result = run("search", "moved to where", "-u", "ann")
    assert result.exit_code == 0
    header, first, second, cost = result.stdout.splitlines()
    assert header.split() == ["#", "tier", "date", "speaker", "score", "relevance", "text"]
    assert first.split()[:5] == ["1", "MTM", "2024-05-08", "Ann", "2.0000"]
    assert first.endswith("I moved to Rome")
    assert second.split()[:4] == ["2", "MTM", "2024-05-09", "Bob"]
    assert cost.startswith("2 of 2 memories")
    assert cost.endswith("7.0 of them the server's")


def test_nothing_found_says_so(run: Run) -> None:
    result = run("search", "zebra", "-u", "ann")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "nothing found")


def test_json_is_the_whole_answer(run: Run) -> None:
    answer = json.loads(run("search", "moved", "-u", "ann", "--json").stdout)
    assert answer["memories"][0]["memory"]["tier"] == "MTM"
    assert answer["memories"][0]["memory"]["occurred_at"] == "2024-05-08T13:56:00+00:00"
    assert answer["trace"]["stages"][0]["name"] == "embed"
    assert answer["trace"]["candidates"][0]["source_ranks"] == {"lexical_turn": 1}


def test_context_is_ready_for_a_prompt(run: Run) -> None:
    assert run("search", "rome", "-u", "ann", "--context").stdout == "Ann: I moved to Rome\n"


def test_explain_shows_plan_stages_and_candidates(run: Run, peer: Peer) -> None:
    result = run("search", "moved to where", "-u", "ann", "--explain", "-n", "1")
    assert peer.requests["Retrieve"].include_coarse
    for expected in ("view 1: moved to where", "Selector full", "coarse", "lexical_turn:1", "returned"):
        assert expected in result.stdout


def test_options_reach_the_server(run: Run, peer: Peer) -> None:
    run(
        *("search", "x", "-u", "ann", "-s", "s1", "-n", "3", "--max-candidates", "20", "--max-tokens", "99"),
        *("--deadline-ms", "80", "--mode", "fast", "--min-relevance", "0.5", "--tier", "ltm", "--time-zone", "UTC"),
        *("--from", "2024-01-01T00:00Z", "--to", "2025-01-01T00:00Z", "--at", "2024-06-01T00:00Z"),
    )
    request = peer.requests["Retrieve"]
    assert (request.scope.session_id, request.selector_mode) == ("s1", pb.SELECTOR_MODE_FAST)
    assert (request.budget.max_memories, request.budget.max_candidates, request.budget.max_tokens) == (3, 20, 99)
    assert request.budget.deadline.ToMilliseconds() == 80
    assert (request.min_relevance, list(request.filter.tiers), request.time_zone) == (0.5, [3], "UTC")
    assert request.filter.occurred_from.seconds < request.asked_at.seconds < request.filter.occurred_to.seconds


def test_without_options_the_server_decides(run: Run, peer: Peer) -> None:
    run("search", "x", "-u", "ann")
    assert not peer.requests["Retrieve"].HasField("budget")


def test_stored_text_cannot_steer_the_terminal(run: Run) -> None:
    run("add", "moved \x1b[31m[bold]red[/bold]\x1b]0;title\x07", "-u", "eve")
    shown = run("search", "moved", "-u", "eve").stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[bold]red[/bold]" in shown


@pytest.mark.parametrize("option", [("-n", "0"), ("-n", "101"), ("--at", "soon"), ("--mode", "best")], ids=str)
def test_bad_option_is_a_usage_error(run: Run, option: tuple[str, ...]) -> None:
    assert run("search", "x", "-u", "ann", *option).exit_code == ExitCode.USAGE


def test_why_says_where_a_memory_was_lost(run: Run, peer: Peer) -> None:
    memory_id = peer.memories["ann"][0].id
    result = run("search", "where", "-u", "ann", "--why", memory_id)
    assert result.stdout.splitlines() == ["'I moved to Rome' came 11th.", f"{memory_id}: lost after select, by 0.250"]
    assert json.loads(run("search", "where", "-u", "ann", "--why", memory_id, "--json").stdout)["margin"] == 0.25
