from __future__ import annotations

import json
from collections.abc import Callable

import grpc
from click.testing import Result

from clients.python.tests.peer import Failure, Peer
from lightmem_server.cli.options import ExitCode

Run = Callable[..., Result]


def test_consolidate_tells_what_it_kept_and_why_it_rejected(run: Run, peer: Peer) -> None:
    run("add", "I moved to Porto.", "-u", "ann")
    shown = run("consolidate", "ann")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[0] == "run r1: 1 kept, 2 rejected"
    assert shown.stdout.splitlines()[2].split() == ["2", "question"]
    assert peer.requests["Consolidate"].user_id == "ann"


def test_consolidate_as_json_is_one_moment_a_line(run: Run) -> None:
    run("add", "I moved to Porto.", "-u", "ann")
    moments = [json.loads(line) for line in run("consolidate", "ann", "--json").stdout.splitlines()]
    assert [moment["stage"] for moment in moments] == ["queue", "abstract", "done"]
    assert (moments[1]["rejected"], moments[1]["remaining_seconds"]) == ({"question": 2}, 0.0)
    assert moments[0]["remaining_seconds"] is None


def test_without_news_it_says_so(run: Run) -> None:
    assert run("consolidate", "ann").stdout == "nothing new\n"


def test_a_failed_run_ends_the_command(run: Run, peer: Peer) -> None:
    run("add", "I moved to Porto.", "-u", "ann")
    peer.fail("Consolidate", Failure(grpc.StatusCode.UNAVAILABLE, "RUN_FAILED", is_late=True))
    result = run("consolidate", "ann")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert len(result.stderr.splitlines()) == 1


def test_undo_and_cancel(run: Run) -> None:
    run("add", "I moved to Porto.", "-u", "ann")
    assert run("consolidate", "--undo", "r1").stdout == "2 memories put back, 3 removed\n"
    undone = json.loads(run("consolidate", "ann", "--undo", "r1", "--json").stdout)
    assert undone == {"restored_count": 2, "removed_count": 3}
    assert run("consolidate", "--undo", "r2").exit_code == ExitCode.NOT_FOUND
    assert run("consolidate", "ann", "--cancel").stdout.startswith("run r1 is cancelled")
    assert json.loads(run("consolidate", "ann", "--cancel", "--json").stdout) == {"run_id": "r1", "job_count": 1}
    assert run("consolidate", "bob", "--cancel").stdout == "nothing was at work or waiting\n"


def test_consolidate_used_wrongly(run: Run) -> None:
    assert run("consolidate").exit_code == ExitCode.USAGE
    assert run("consolidate", "ann", "--cancel", "--undo", "r1").exit_code == ExitCode.USAGE


def test_history_for_people_and_programs(run: Run) -> None:
    memory_id = run("add", "I moved to Porto.", "-u", "ann").stdout.strip()
    header, row = run("history", memory_id, "-u", "ann").stdout.splitlines()
    assert header.split() == ["version", "since", "cause", "why", "state", "valid", "text"]
    assert "write" in row
    assert "I moved to Porto." in row
    (version,) = json.loads(run("history", memory_id, "-u", "ann", "--json").stdout)
    assert (version["cause"], version["memory"]["text"]) == ("write", "I moved to Porto.")
    assert run("history", memory_id, "-u", "bob").exit_code == ExitCode.NOT_FOUND


def test_stats_tell_of_jobs_set_aside(run: Run, peer: Peer) -> None:
    assert "set aside" not in run("stats").stdout
    peer.dead_jobs["ann"] = "no model"
    shown = run("stats").stdout
    assert "ann: consolidate failed 8 times: no model" in shown
    assert json.loads(run("stats", "--json").stdout)["dead_jobs"][0]["user_id"] == "ann"
