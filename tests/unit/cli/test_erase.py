from __future__ import annotations

import json
from collections.abc import Callable

import grpc
from click.testing import Result

from clients.python.tests.peer import Failure, Peer
from lightmem_server.cli.options import ExitCode

Run = Callable[..., Result]


def test_erase_gives_the_receipt(run: Run, peer: Peer) -> None:
    run("add", "I moved to Porto.", "-u", "ann")
    shown = run("erase", "ann", "--yes")
    assert shown.exit_code == ExitCode.OK
    assert shown.stdout.startswith("erased 1 memories, 1 vectors, 1 jobs; receipt ")
    assert peer.texts("ann") == []
    receipt = json.loads(run("erase", "ann", "--yes", "--json").stdout)
    assert (receipt["memory_count"], receipt["vector_count"], receipt["job_count"]) == (0, 0, 0)
    assert receipt["erased_at"].startswith("1970-01-01T00:01")


def test_erase_is_not_done_where_nobody_can_be_asked(run: Run, peer: Peer) -> None:
    run("add", "I moved to Porto.", "-u", "ann")
    assert run("erase", "ann", input="y\n").exit_code == ExitCode.USAGE
    assert run("erase").exit_code == ExitCode.USAGE
    assert peer.texts("ann") == ["I moved to Porto."]


def test_a_failed_erasure_is_not_repeated_and_says_so(run: Run, peer: Peer) -> None:
    peer.fail("EraseUser", Failure(grpc.StatusCode.UNAVAILABLE, "ERASURE_INCOMPLETE", is_late=True))
    result = run("erase", "ann", "--yes")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert peer.calls["EraseUser"] == 1
    assert len(result.stderr.splitlines()) == 1
