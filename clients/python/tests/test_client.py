"""Both clients against the peer: each test runs with the synchronous one and, through a thin shim, the asynchronous one."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import anyio
import grpc
import pytest
from clients.python.tests.conftest import FAST
from clients.python.tests.peer import KEY, Failure, Peer

from lightmem_client import (
    AbortedError,
    AlreadyExistsError,
    AsyncClient,
    BackupProgress,
    CancelledConsolidation,
    CancelledError,
    Client,
    CoarsePart,
    ContextPart,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MemoriesPart,
    Meta,
    NotFoundError,
    OverloadedError,
    RetrievalTrace,
    Role,
    SelectorMode,
    Tier,
    Turn,
    UnauthenticatedError,
    UnavailableError,
    UndoneConsolidation,
)

UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
LOST = Failure(grpc.StatusCode.UNAVAILABLE, is_late=True)
MOMENT = datetime(2024, 5, 8, 13, 56, tzinfo=UTC)


class Blocking:
    """An AsyncClient with its calls awaited, so that one test serves both."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            async def run() -> Any:
                result = method(*args, **kwargs)
                return [item async for item in result] if inspect.isasyncgen(result) else await result

            return self._runner.run(run())

        return call


@pytest.fixture(params=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    with asyncio.Runner() as runner:
        opened: list[Any] = []

        def make(target: str, **options: Any) -> Any:
            arguments = {"api_key": KEY, "user_id": "ann", "timeout_seconds": 10, "retry": FAST} | options
            made = (
                Client(target, **arguments)
                if request.param == "sync"
                else Blocking(AsyncClient(target, **arguments), runner)
            )
            opened.append(made)
            return made

        yield make
        for made in opened:
            made.close()


@pytest.fixture
def any_client(make_client: Any, peer: Peer) -> Any:
    return make_client(peer.target)


def test_what_was_written_is_found(any_client: Any) -> None:
    turns = [Turn("I moved to Rome", speaker="Ann", occurred_at=MOMENT, metadata={"city": "Rome"}), "Nice weather"]
    written = any_client.write(turns, session_id="s1")
    assert len(written.memory_ids) == 2
    assert written.request_id
    assert not written.is_replay
    found = any_client.retrieve("moved to where", session_id="s1", max_memories=1)
    assert [hit.memory.id for hit in found.memories] == [written.memory_ids[0]]
    memory = found.memories[0].memory
    assert (memory.text, memory.speaker, memory.occurred_at) == ("I moved to Rome", "Ann", MOMENT)
    assert (memory.tier, memory.role, dict(memory.metadata)) == (Tier.MTM, Role.USER, {"city": "Rome"})
    assert [turn.text for turn in found.context] == ["I moved to Rome", "Nice weather"]
    assert found.coarse == ()
    assert found.packed_context == "Ann: I moved to Rome"
    assert [stage.name for stage in found.trace.stages] == ["embed", "coarse", "select"]
    assert found.trace.candidates[0].source_ranks == {"lexical_turn": 1}
    assert found.trace.plan.selector_mode is SelectorMode.FULL
    assert found.trace.elapsed_seconds == 0.007


def test_an_answer_without_its_trace_has_the_rest(any_client: Any) -> None:
    any_client.write("I moved to Rome", session_id="s1")
    found = any_client.retrieve("moved to where", exclude_trace=True)
    assert [hit.memory.text for hit in found.memories] == ["I moved to Rome"]
    assert found.trace is None


def test_parts_come_in_order(any_client: Any) -> None:
    any_client.write("hello there")
    parts = list(any_client.retrieve_stream("hello", include_coarse=True))
    assert [type(part) for part in parts] == [ContextPart, CoarsePart, MemoriesPart, RetrievalTrace]


def test_get_list_update_delete(any_client: Any) -> None:
    ids = [any_client.write(f"turn {number}").memory_ids[0] for number in range(5)]
    assert any_client.get(ids[0]).text == "turn 0"
    assert [memory.id for memory in any_client.list(page_size=2)] == ids[::-1]
    changed = any_client.update(ids[1], metadata={"k": 1}, is_pinned=True, expected_version=1)
    assert (dict(changed.metadata), changed.is_pinned, changed.version) == ({"k": 1}, True, 2)
    with pytest.raises(AbortedError) as caught:
        any_client.update(ids[1], is_pinned=False, expected_version=1)
    assert caught.value.reason == "VERSION_MISMATCH"
    any_client.delete(ids[0])
    with pytest.raises(NotFoundError):
        any_client.get(ids[0])
    with pytest.raises(NotFoundError):
        any_client.delete(ids[0])


def test_context_is_the_session_in_order(any_client: Any) -> None:
    any_client.write(["a", "b", "c"], session_id="s1")
    any_client.write("d", session_id="s2")
    assert [turn.text for turn in any_client.get_context("s1", max_turns=2)] == ["b", "c"]


def test_users_are_named_by_the_call_or_the_client(any_client: Any, peer: Peer) -> None:
    any_client.write("for ann")
    any_client.write("for bob", user_id="bob")
    assert (peer.texts("ann"), peer.texts("bob")) == (["for ann"], ["for bob"])


def test_no_user_is_refused_before_anything_is_sent(make_client: Any, peer: Peer) -> None:
    nobody = make_client(peer.target, user_id="")
    with pytest.raises(InvalidArgumentError) as caught:
        nobody.write("x")
    assert caught.value.field == "scope.user_id"
    assert peer.calls["Write"] == 0


def test_stats_and_keys(any_client: Any, peer: Peer) -> None:
    any_client.write("x")
    stats = any_client.stats()
    assert (stats.user_count, stats.counts[0].active_count, stats.uptime_seconds) == (1, 1, 90.0)
    assert peer.requests["GetStats"].user_id == ""  # the client's own user doesn't narrow it
    created = any_client.create_key(label="app", user_ids=["ann"])
    assert created.secret.startswith("lm_")
    assert created.secret not in repr(created)
    assert [key.label for key in any_client.list_keys()] == ["app"]
    assert any_client.revoke_key(created.key.key_id).revoked_at is not None


def test_errors_carry_what_the_server_said(any_client: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        any_client.write(["fine", " "])
    assert (caught.value.field, caught.value.reason) == ("turns[1].text", "REQUIRED")


def test_request_id_makes_a_second_write_a_replay(any_client: Any, peer: Peer) -> None:
    first = any_client.write("x", request_id="r1")
    again = any_client.write("x", request_id="r1")
    assert again.is_replay
    assert again.memory_ids == first.memory_ids
    with pytest.raises(AlreadyExistsError):
        any_client.write("y", request_id="r1")
    assert peer.texts("ann") == ["x"]


async def test_status_is_the_servers_even_when_it_ends_the_stream_early(peer: Peer) -> None:
    async with AsyncClient(peer.target, api_key="lm_wrong", user_id="ann") as client:
        for _ in range(50):  # grpc.aio alone would give INTERNAL in some of them
            with pytest.raises(UnauthenticatedError):
                await client.write("x")
            writer = client.open_writer()
            pending = [await writer.send("x") for _ in range(4)]
            with pytest.raises(UnauthenticatedError):
                await pending[0]


def test_wrong_key_is_unauthenticated(make_client: Any, peer: Peer) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        make_client(peer.target, api_key="lm_wrong").get("x")
    assert caught.value.reason == "KEY_INVALID"
    assert peer.calls["GetMemory"] == 1  # a wrong key stays wrong


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.write("hello"),
        lambda client: client.retrieve("hello"),
        lambda client: list(client.retrieve_stream("hello")),
        lambda client: list(client.list()),
        lambda client: client.get_context("s"),
        lambda client: client.stats(),
        lambda client: list(client.list_keys()),
    ],
    ids=["write", "retrieve", "retrieve_stream", "list", "get_context", "stats", "list_keys"],
)
def test_repeatable_calls_outlive_a_short_absence(any_client: Any, peer: Peer, call: Any) -> None:
    overload = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after_seconds=0.02)
    for method in ("Write", "Retrieve", "ListMemories", "GetContext", "GetStats", "ListKeys"):
        peer.fail(method, UNAVAILABLE, overload)
    call(any_client)
    assert max(peer.calls.values()) == 3


def test_attempts_are_bounded(any_client: Any, peer: Peer) -> None:
    peer.fail("GetStats", *[UNAVAILABLE] * 10)
    with pytest.raises(UnavailableError):
        any_client.stats()
    assert peer.calls["GetStats"] == FAST.max_attempts


def test_overload_that_does_not_say_when_is_not_repeated(any_client: Any, peer: Peer) -> None:
    peer.fail("GetStats", Failure(grpc.StatusCode.RESOURCE_EXHAUSTED))
    with pytest.raises(OverloadedError):
        any_client.stats()
    assert peer.calls["GetStats"] == 1


def test_wait_that_would_pass_the_timeout_is_not_begun(any_client: Any, peer: Peer) -> None:
    peer.fail("GetStats", Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_seconds=60))
    with pytest.raises(OverloadedError) as caught:
        any_client.stats(timeout_seconds=5)
    assert caught.value.retry_after_seconds == 60


def test_write_whose_answer_is_lost_is_stored_once(any_client: Any, peer: Peer) -> None:
    peer.fail("Write", Failure(grpc.StatusCode.UNAVAILABLE))
    written = any_client.write("once")
    assert peer.texts("ann") == ["once"]
    assert written.memory_ids == (peer.memories["ann"][0].id,)


def test_delete_whose_answer_is_lost_succeeds(any_client: Any, peer: Peer) -> None:
    (memory_id,) = any_client.write("gone soon").memory_ids
    peer.fail("DeleteMemory", LOST)
    any_client.delete(memory_id)
    assert peer.texts("ann") == []
    assert peer.calls["DeleteMemory"] == 2


def test_delete_of_what_never_was_is_not_found_even_after_an_overload(any_client: Any, peer: Peer) -> None:
    peer.fail("DeleteMemory", Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_seconds=0.01))
    with pytest.raises(NotFoundError):
        any_client.delete("nothing")


def test_key_is_not_made_twice(any_client: Any, peer: Peer) -> None:
    peer.fail("CreateKey", LOST)
    with pytest.raises(UnavailableError):
        any_client.create_key()
    assert peer.calls["CreateKey"] == 1


def test_update_is_repeated_only_with_a_version(any_client: Any, peer: Peer) -> None:
    (memory_id,) = any_client.write("x").memory_ids
    peer.fail("UpdateMemory", LOST, LOST)
    with pytest.raises(UnavailableError):
        any_client.update(memory_id, is_pinned=True)
    with pytest.raises(AbortedError):  # the lost attempt took effect, and is not applied twice
        any_client.update(memory_id, is_pinned=True, expected_version=2)
    assert peer.memories["ann"][0].version == 3


def test_retrieval_that_breaks_midway_is_repeated_whole_but_not_when_streamed(any_client: Any, peer: Peer) -> None:
    any_client.write("hello")
    peer.fail("Retrieve", LOST)
    assert len(any_client.retrieve("hello").memories) == 1
    peer.fail("Retrieve", LOST)
    with pytest.raises(UnavailableError):
        list(any_client.retrieve_stream("hello"))


def test_nobody_there_is_unavailable(make_client: Any, peer: Peer) -> None:
    peer.stop()
    gone = make_client(peer.target)
    with pytest.raises(UnavailableError) as caught:
        gone.stats(timeout_seconds=5)
    assert caught.value.reason == "UNREACHABLE"
    assert not gone.is_healthy(timeout_seconds=2)


def test_timeout_is_kept(any_client: Any, peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    with pytest.raises(DeadlineExceededError):
        any_client.write("x", timeout_seconds=0.2)
    peer.holds_writes.set()


def test_wait_ready_returns_when_the_server_is_ready(any_client: Any, peer: Peer) -> None:
    peer.set_ready(False)
    assert not any_client.is_healthy()
    ready = threading.Timer(0.1, peer.set_ready, [True])
    ready.start()
    any_client.wait_ready(timeout_seconds=10)
    ready.join()
    assert any_client.is_healthy()


def test_wait_ready_waits_for_the_server_to_appear(make_client: Any, peer: Peer) -> None:
    peer.stop()
    early = make_client(peer.target)
    appearing = threading.Timer(0.1, peer.start)
    appearing.start()
    early.wait_ready(timeout_seconds=10)
    appearing.join()


def test_wait_ready_gives_up(any_client: Any, peer: Peer) -> None:
    peer.set_ready(False)
    with pytest.raises(DeadlineExceededError, match="no server is ready at"):
        any_client.wait_ready(timeout_seconds=0.2)


def test_closed_client_says_so(any_client: Any) -> None:
    any_client.stats()
    any_client.close()
    any_client.close()
    with pytest.raises(CancelledError, match="closed"):
        any_client.stats()


def test_metadata_filter_reaches_the_server(any_client: Any, peer: Peer) -> None:
    any_client.retrieve("x", filter=(Meta("city") == "Rome") & (Meta("year") >= 2020))
    assert len(peer.requests["Retrieve"].filter.metadata.all_of.filters) == 2


def test_leaving_a_stream_early_leaves_the_client_usable(client: Client) -> None:
    client.write("hello")
    for part in client.retrieve_stream("hello"):
        assert isinstance(part, ContextPart)
        break
    assert client.retrieve("hello").memories


def test_closing_a_client_ends_a_stream_that_another_thread_waits_for(peer: Peer) -> None:
    peer.holds_retrieves = threading.Event()
    client = Client(peer.target, api_key=KEY, user_id="ann")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.retrieve, "x")
        peer.arrived.wait()
        client.close()
        with pytest.raises(CancelledError):
            waiting.result(timeout=10)
    peer.holds_retrieves.set()


async def test_closing_an_async_client_at_work_is_not_a_cancelled_task(peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    client = AsyncClient(peer.target, api_key=KEY, user_id="ann")
    writing = asyncio.create_task(client.write("x"))
    await asyncio.to_thread(peer.arrived.wait)
    await client.close()
    with pytest.raises(CancelledError):
        await writing
    peer.holds_writes.set()


def cancel_after(turns_of_the_loop: int, scope: anyio.CancelScope) -> None:
    if turns_of_the_loop:
        asyncio.get_running_loop().call_soon(cancel_after, turns_of_the_loop - 1, scope)
    else:
        scope.cancel()


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.write("x"),
        lambda client: client.stats(),
        lambda client: client.retrieve("x"),
    ],
    ids=["write", "stats", "retrieve"],
)
async def test_a_scope_of_anyio_knows_its_own_cancellation(peer: Peer, call: Callable[[AsyncClient], Any]) -> None:
    """FastAPI and MCP servers are made of them; what a scope doesn't know as its own ends all that runs beside it."""
    async with AsyncClient(peer.target, api_key=KEY, user_id="ann", retry=FAST) as client:
        await client.write("x", request_id="1")
        caught = 0
        for turns_of_the_loop in range(1, 6):  # which of them come before the answer is gRPC's
            with anyio.CancelScope() as scope:
                cancel_after(turns_of_the_loop, scope)
                await call(client)
            caught += scope.cancelled_caught
        assert caught


async def test_cancelling_a_task_cancels_it(peer: Peer) -> None:
    peer.holds_writes = threading.Event()
    async with AsyncClient(peer.target, api_key=KEY, user_id="ann") as client:
        writing = asyncio.create_task(client.write("x"))
        await asyncio.to_thread(peer.arrived.wait)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        peer.holds_writes.set()


def test_an_explanation_says_where_a_memory_was_lost(any_client: Any, peer: Peer) -> None:
    (memory_id,) = any_client.write("tea").memory_ids
    explanation = any_client.explain("what?", memory_id, max_memories=3)
    assert (explanation.reached_stage, explanation.margin) == ("select", 0.25)
    assert explanation.trace.plan.need.name == "EPISODE"
    (candidate,) = explanation.trace.candidates
    assert (candidate.relevance, dict(candidate.score_parts)) == (0.5, {"session": 0.75})
    assert peer.requests["Explain"].retrieve.budget.max_memories == 3
    with pytest.raises(NotFoundError):
        any_client.explain("what?", "nothing")


def test_a_consolidation_is_followed_cancelled_and_undone(any_client: Any, peer: Peer) -> None:
    any_client.write(["I moved to Rome", "Nice weather"])
    moments = list(any_client.consolidate())
    assert [moment.stage for moment in moments] == ["queue", "abstract", "abstract", "done"]
    second = moments[2]
    assert (second.run_id, second.done_count, second.total_count, second.kept_count) == ("r1", 2, 2, 2)
    assert (second.rejected, second.remaining_seconds, moments[0].remaining_seconds) == ({"question": 2}, 0.0, None)
    assert any_client.cancel_consolidation() == CancelledConsolidation("r1", 1)
    assert any_client.undo_consolidation("r1") == UndoneConsolidation(restored_count=2, removed_count=3)
    with pytest.raises(NotFoundError):
        any_client.undo_consolidation("r2")
    assert [peer.requests[call].user_id for call in ("Consolidate", "CancelConsolidation")] == ["ann", "ann"]


def test_a_consolidation_that_fails_is_not_started_again(any_client: Any, peer: Peer) -> None:
    any_client.write("I moved to Rome")
    peer.fail("Consolidate", LOST)
    with pytest.raises(UnavailableError):
        list(any_client.consolidate())
    assert peer.calls["Consolidate"] == 1


def test_the_history_of_a_memory(any_client: Any) -> None:
    (memory_id,) = any_client.write("I moved to Rome").memory_ids
    (version,) = any_client.history(memory_id)
    assert (version.memory.text, version.cause, version.explanation) == ("I moved to Rome", "write", "It was stored.")
    assert version.changed_at == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    with pytest.raises(NotFoundError):
        any_client.history(memory_id, user_id="bob")


def test_backup_is_told_moment_by_moment(any_client: Any, peer: Peer) -> None:
    moments = list(any_client.backup("monday.db"))
    assert [moment.stage for moment in moments] == ["copy", "verify", "done"]
    assert moments[0] == BackupProgress("copy", 1, 2, "", 0)
    assert (moments[-1].path, moments[-1].size_bytes) == ("/data/backups/monday.db", 8192)
    peer.fail("Backup", Failure(grpc.StatusCode.UNAVAILABLE, "STORE_FAILED"))
    with pytest.raises(UnavailableError):
        list(any_client.backup())
    assert peer.calls["Backup"] == 2, "never repeated: each call makes a file"
    with pytest.raises(FailedPreconditionError):
        list(any_client.backup("monday.db"))


# A user's rights


def test_erase_user_gives_the_receipt_and_is_never_repeated(client: Client, peer: Peer) -> None:
    client.write(["I moved to Porto.", "It rains."])
    erased = client.erase_user("ann")
    assert (erased.memory_count, erased.vector_count, erased.job_count) == (2, 2, 1)
    assert erased.receipt_id
    assert erased.erased_at is not None
    assert client.erase_user("ann").memory_count == 0
    peer.fail("EraseUser", Failure(grpc.StatusCode.UNAVAILABLE, "ERASURE_INCOMPLETE"))
    with pytest.raises(UnavailableError) as caught:
        client.erase_user("ann")
    assert caught.value.reason == "ERASURE_INCOMPLETE"
    assert peer.calls["EraseUser"] == 3


def test_export_and_import_stream_lines(client: Client, peer: Peer) -> None:
    lines = [f'{{"n":{number},"x":"{"y" * 1000}"}}' for number in range(2500)]
    peer.exports["ann"] = lines
    parts = list(client.export_user("ann"))
    assert [line for part in parts for line in part.lines] == lines
    assert (parts[-1].done_count, parts[-1].total_count) == (2500, 2500)
    done = client.import_user("bob", (f"{line}\n" for line in lines))
    assert (done.imported_count, done.skipped_count, done.reembedded_count) == (2500, 0, 1250)
    assert peer.exports["bob"] == lines
    assert client.import_user("eve", []).imported_count == 0
    assert peer.exports["eve"] == []
    peer.fail("ImportUser", Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING", is_late=True))
    with pytest.raises(UnavailableError):
        client.import_user("bob", lines)
    assert peer.calls["ImportUser"] == 3


async def test_the_same_asynchronously(peer: Peer) -> None:
    lines = [f'{{"n":{number}}}' for number in range(2500)]
    peer.exports["ann"] = lines
    async with AsyncClient(peer.target, api_key=KEY) as client:
        assert [line async for part in client.export_user("ann") for line in part.lines] == lines
        assert (await client.import_user("bob", lines)).imported_count == 2500
        assert (await client.erase_user("ann")).memory_count == 0


@pytest.mark.parametrize(
    ("field", "reason", "call"),
    [
        ("turns", "WRONG_TYPE", lambda client: client.write(3)),
        ("turns", "WRONG_TYPE", lambda client: client.write(None)),
        ("turns[0]", "WRONG_TYPE", lambda client: client.write(b"x")),
        ("turns[0].text", "MALFORMED", lambda client: client.write("half \ud83d")),
        ("turns[0].speaker", "MALFORMED", lambda client: client.write(Turn("x", speaker="\ud83d"))),
        ("turns[0].occurred_at", "WRONG_TYPE", lambda client: client.write(Turn("x", occurred_at="2024-05-08"))),  # type: ignore[arg-type]
        ("turns[0].metadata", "WRONG_TYPE", lambda client: client.write(Turn("x", metadata=[1]))),  # type: ignore[arg-type]
        ("turns[0].metadata[1]", "WRONG_TYPE", lambda client: client.write(Turn("x", metadata={1: "x"}))),  # type: ignore[dict-item]
        ("turns[0].metadata[a]", "MALFORMED", lambda client: client.write(Turn("x", metadata={"a": "\ud83d"}))),
        ("scope.session_id", "WRONG_TYPE", lambda client: client.write("x", session_id=3)),
        ("query", "MALFORMED", lambda client: client.retrieve("\ud83d")),
        ("query", "WRONG_TYPE", lambda client: client.retrieve(None)),
        ("budget.max_memories", "OUT_OF_RANGE", lambda client: client.retrieve("x", max_memories=1.5)),
        ("hypothetical_queries", "OUT_OF_RANGE", lambda client: client.retrieve("x", hypothetical_queries=-1)),
        ("max_turns", "OUT_OF_RANGE", lambda client: client.get_context("s", max_turns=-1)),
        ("page_size", "OUT_OF_RANGE", lambda client: list(client.list(page_size=0))),
        ("expected_version", "OUT_OF_RANGE", lambda client: client.update("1", is_pinned=True, expected_version=-1)),
        ("timeout_seconds", "OUT_OF_RANGE", lambda client: client.retrieve("x", timeout_seconds=math.nan)),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_field(
    any_client: Any, peer: Peer, field: str, reason: str, call: Callable[[Any], Any]
) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        call(any_client)
    assert (refused.value.field, refused.value.reason) == (field, reason)


def test_an_option_that_there_is_not_is_refused(any_client: Any) -> None:
    with pytest.raises(TypeError, match="max_memmories; there are max_memories"):
        any_client.retrieve("x", max_memmories=3)
    with pytest.raises(TypeError, match="pinned; there are metadata"):
        any_client.update("1", pinned=True)


def test_a_timeout_without_end_is_none(any_client: Any) -> None:
    any_client.write("hello there", timeout_seconds=math.inf)
    assert any_client.retrieve("hello", timeout_seconds=math.inf).memories


def test_a_window_for_nothing_is_refused(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="max_in_flight"):
        client.open_writer(max_in_flight=0)
