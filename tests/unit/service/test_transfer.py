"""ExportUser and ImportUser through whole servers and the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lightmem_client import AsyncClient, ImportResult, MemoryFilter, Turn
from lightmem_client.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
)

from lightmem_server.config import load
from lightmem_server.pipeline import transfer
from lightmem_server.server import LightMemServer
from lightmem_server.slm.fakes import HashEmbedder
from tests.unit.service.test_consolidation import FakeModels, Gate, Running, start


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = await start(tmp_path / "data", "on")
    yield running
    await running.client.close()
    await running.server.stop()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Running]:
    other = await start(tmp_path / "other", "on")
    yield other
    await other.client.close()
    await other.server.stop()


async def export(running: Running, user_id: str = "ann") -> list[str]:
    return [line async for part in running.client.export_user(user_id) for line in part.lines]


async def fill(running: Running) -> None:
    """Turns of two sessions, facts of a run, changes, a deletion, and news since the run."""
    texts = ["I moved to Porto.", "My cat is Nino.", "I like\u2028tea\nand bread."]
    first = await running.client.write(
        [Turn(text, speaker="Ann", metadata={"n": 1, "x": 1.0, "b": True}) for text in texts], session_id="a"
    )
    async for _ in running.client.consolidate(timeout_seconds=30):
        pass
    await running.client.update(first.memory_ids[1], metadata={"n": 2}, is_pinned=True)
    await running.client.write(["It rains.", "It snows."], session_id="b")
    await running.client.delete((await running.client.write(["Forget this."], session_id="b")).memory_ids[0])


def parse(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def changed(line: str, **fields: Any) -> str:
    return json.dumps(json.loads(line) | fields, ensure_ascii=False)


async def test_a_user_moves_to_another_server_whole(running: Running, other: Running) -> None:
    await fill(running)
    lines = await export(running)
    header, *rest = parse(lines)
    assert (header["runs"], header["memories"], header["format"]) == (1, 8, 1)
    assert len(rest) == header["runs"] + header["changes"] + header["versions"] + header["memories"]
    assert not any("Forget this" in line for line in lines)
    done = await other.client.import_user("ann", lines)
    assert done == ImportResult(imported_count=8, skipped_count=0, reembedded_count=0)
    assert await export(other) == lines
    everything = MemoryFilter(include_archived=True)
    here = [memory async for memory in other.client.list(filter=everything)]
    assert here == [memory async for memory in running.client.list(filter=everything)]
    for memory in here:
        assert await other.client.history(memory.id) == await running.client.history(memory.id)
    found = await other.client.retrieve("What is the name of my cat?")
    assert found.memories[0].memory.text.casefold() == "my cat is nino."
    assert [turn.text for turn in await other.client.get_context("b")] == ["It rains.", "It snows."]


async def test_consolidation_goes_on_where_it_was_and_a_run_can_be_undone(running: Running, other: Running) -> None:
    await fill(running)
    await other.client.import_user("ann", await export(running))
    run_id = next(line["id"] for line in parse(await export(other)) if line["type"] == "run")
    asked: list[str] = []

    async def note(moment: str, text: str) -> None:
        asked.append(text) if moment == "write" else None

    other.consolidation.at = note
    await other.consolidate()
    assert asked == ["My cat is Nino.", "It rains.", "It snows."], "what was changed or written since the last run"
    undone = await other.client.undo_consolidation(run_id)
    assert (undone.restored_count, undone.removed_count) == (0, 3)


async def test_who_was_never_consolidated_is_new_there_too(running: Running, other: Running) -> None:
    await running.client.write(["I moved to Porto."])
    await other.client.import_user("ann", await export(running))
    assert (await other.client.stats(user_id="ann")).pending_job_count == 1
    await other.consolidate()
    assert await other.facts() == ["I MOVED TO PORTO."]


async def test_importing_again_changes_nothing_and_goes_on_after_what_is_there(
    running: Running, other: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "BATCH_ITEMS", 3)
    await fill(running)
    lines = await export(running)
    with pytest.raises(InvalidArgumentError) as caught:
        await other.client.import_user("ann", lines[:-3])
    assert caught.value.reason == "INCOMPLETE"
    done = await other.client.import_user("ann", lines)
    assert (done.imported_count + done.skipped_count, done.skipped_count > 0) == (8, True)
    assert await export(other) == lines
    again = await other.client.import_user("ann", [f"{line}\n" for line in lines])
    assert (again.imported_count, again.skipped_count) == (0, 8)
    assert await export(other) == lines
    (memory,) = [m async for m in other.client.list() if m.text == "It rains."]
    await other.client.update(memory.id, is_pinned=True)
    assert (await other.client.import_user("ann", lines)).skipped_count == 8, "it has gone on from what is imported"
    assert (await other.client.get(memory.id)).is_pinned


async def test_what_is_not_the_same_is_refused(running: Running) -> None:
    await fill(running)
    lines = await export(running)
    numbers = {json.loads(line)["text"]: number for number, line in enumerate(lines) if '"type":"memory"' in line}
    rains = numbers["It rains."]
    for fields in ({"text": "It pours."}, {"version": 2}, {"session_id": "z"}, {"metadata": {"n": True}}):
        other_content = [*lines]
        other_content[rains] = changed(lines[rains], **fields)
        with pytest.raises(AlreadyExistsError, match=f"line {rains + 1}: "):
            await running.client.import_user("ann", other_content)
    assert await export(running) == lines
    (memory,) = [m async for m in running.client.list() if m.text == "It rains."]
    await running.client.delete(memory.id)
    with pytest.raises(FailedPreconditionError) as caught:
        await running.client.import_user("ann", lines)
    assert (caught.value.reason, f"line {rains + 1}: " in caught.value.message) == ("MEMORY_DELETED", True)
    await running.client.erase_user("ann")
    await running.client.import_user("ann", lines)
    assert await export(running) == lines


async def test_another_user_of_the_server_can_have_a_copy_unless_it_has_runs(running: Running) -> None:
    await running.client.write(["It rains."])
    lines = await export(running)
    assert (await running.client.import_user("bob", lines)).imported_count == 1
    assert await export(running, "bob") == lines
    await running.consolidate()
    with pytest.raises(FailedPreconditionError) as caught:
        await running.client.import_user("eve", await export(running))
    assert caught.value.reason == "RUN_ELSEWHERE"


BAD_LINES = {
    "no JSON": "{",
    "no object": "[]",
    "another type": '{"type":"note"}',
    "an unknown field": lambda line: changed(line, colour="crimson"),
    "no text": lambda line: json.dumps({k: v for k, v in json.loads(line).items() if k != "text"}),
    "an id that is none": lambda line: changed(line, id="x"),
    "a version of 0": lambda line: changed(line, version=0),
    "text as a number": lambda line: changed(line, text=7),
    "a NUL": lambda line: changed(line, text="a\0b"),
    "a lone surrogate": lambda line: line.replace("It snows", "\\ud800"),
    "a long text": lambda line: changed(line, text="x" * 40_000),
    "an unknown kind": lambda line: changed(line, kind="RUMOUR"),
    "a time out of range": lambda line: changed(line, occurred_at=2**62),
    "metadata that is no scalar": lambda line: changed(line, metadata={"a": []}),
    "metadata that is not finite": lambda line: changed(line, metadata={"a": float("nan")}),
    "a confidence of 2": lambda line: changed(line, confidence=2),
    "vectors that are no base64": lambda line: changed(line, vector=json.loads(line)["vector"] | {"data": "?"}),
    "vectors of another size": lambda line: changed(line, vector=json.loads(line)["vector"] | {"dim": 383}),
    "vectors that are not finite": lambda line: changed(
        line, vector=json.loads(line)["vector"] | {"views": 1, "dim": 1, "data": "AADAfw=="}
    ),
    "vectors of another shape": lambda line: changed(
        line, vector=json.loads(line)["vector"] | {"views": 1, "dim": 1, "data": "AACAPw=="}
    ),
    "a run that is at work": lambda line: json.dumps(
        {"type": "run", "id": json.loads(line)["id"], "cause": "", "state": "running", "started_at": 0, "model": ""}
        | {"prompt": ""}
    ),
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
async def test_a_bad_line_is_named_and_not_quoted(running: Running, bad: Any) -> None:
    await running.client.write(["It rains.", "It snows."])
    header, first, second = await export(running)
    line = bad if isinstance(bad, str) else bad(second)
    with pytest.raises(InvalidArgumentError, match="line 3: ") as caught:
        await running.client.import_user("bob", [header, first, line])
    assert (caught.value.reason, caught.value.field) == ("BAD_LINE", "json_lines")
    for word in ("rains", "snows", "crimson", "RUMOUR"):
        assert word not in caught.value.message
    assert (await running.client.stats(user_id="bob")).counts == ()


async def test_lines_out_of_place_are_refused(running: Running) -> None:
    (memory_id,) = (await running.client.write(["It rains."])).memory_ids
    await running.client.update(memory_id, is_pinned=True)
    await running.client.write(["It snows."])
    header, version, memory, other = await export(running)
    for lines, reason, number in (
        ([], "BAD_LINE", 1),
        ([version], "BAD_LINE", 1),
        ([header, header], "BAD_LINE", 2),
        ([header, version, other, memory], "BAD_LINE", 3),
        ([header, version, version, memory], "BAD_LINE", 3),
        ([header, version, changed(memory, version=3), other], "BAD_LINE", 3),
        ([header, version, memory], "INCOMPLETE", 3),
        ([header, version, memory, other, other], "INCOMPLETE", 5),
        ([changed(header, format=2, more=[1])], "UNKNOWN_FORMAT", 1),
        ([changed(header, format=0.5)], "BAD_LINE", 1),
    ):
        with pytest.raises(InvalidArgumentError, match=f"line {number}: ") as caught:
            await running.client.import_user("bob", lines)
        assert caught.value.reason == reason, lines


async def test_a_run_that_is_not_there_is_refused(running: Running) -> None:
    (memory_id,) = (await running.client.write(["It rains."])).memory_ids
    await running.client.update(memory_id, is_pinned=True)
    header, version, memory = await export(running)
    with pytest.raises(InvalidArgumentError, match="is named and not there"):
        await running.client.import_user("bob", [header, changed(version, run=memory_id), memory])


async def test_vectors_of_another_model_are_made_anew(running: Running, tmp_path: Path) -> None:
    await fill(running)
    lines = await export(running)
    settings = load({"data_dir": tmp_path / "other", "listen": "127.0.0.1:0"}, environment={})
    server = LightMemServer(settings, lambda _: FakeModels(embedder=HashEmbedder(48)))
    await server.start()
    key = (tmp_path / "other" / "admin.key").read_text().strip()
    async with AsyncClient(server.address, api_key=key, user_id="ann") as client:
        assert await client.import_user("ann", lines) == ImportResult(8, 0, 5), (
            "facts of this consolidator have no vectors"
        )
        assert await client.import_user("ann", lines) == ImportResult(0, 8, 0)
        exported = [line async for part in client.export_user("ann") for line in part.lines]
        found = await client.retrieve("What is the name of my cat?")
        assert found.memories[0].memory.text.casefold() == "my cat is nino."
        # The same as when they had been written here: views with the turns before them.
        await client.write(["It rains.", "It snows."], user_id="bob", session_id="b")
        written = [line async for part in client.export_user("bob") for line in part.lines]
    await server.stop()
    without = [{**line, "vector": None} for line in parse(exported)[1:]]
    assert without == [{**line, "vector": None} for line in parse(lines)[1:]]
    vectors = {line["text"]: line.get("vector") for line in parse(exported) if line["type"] == "memory"}
    for line in parse(written)[1:]:
        assert vectors[line["text"]] == line["vector"]


async def test_an_import_waits_for_no_run_and_says_so(running: Running) -> None:
    await running.client.write(["It rains."])
    lines = await export(running)
    gate = running.consolidation.at = Gate("write")
    following = asyncio.create_task(running.consolidate())
    await gate.reached.wait()
    with pytest.raises(FailedPreconditionError) as caught:
        await running.client.import_user("ann", lines)
    assert caught.value.reason == "RUN_AT_WORK"
    gate.opened.set()
    await following


async def test_nobody_and_who_may(running: Running) -> None:
    assert [json.loads(line)["memories"] for line in await export(running, "nobody")] == [0]
    assert await running.client.import_user("nobody", await export(running, "nobody")) == ImportResult(0, 0, 0)
    assert (await running.client.stats()).user_count == 0
    made = await running.client.create_key(user_ids=["ann"])
    async with AsyncClient(running.server.address, api_key=made.secret, user_id="ann") as agent:
        for call in (agent.import_user("ann", []), anext(aiter(agent.export_user("ann")))):
            with pytest.raises(PermissionDeniedError):
                await call
    for user_id in ("", "*"):
        with pytest.raises(InvalidArgumentError, match=r"^user_id: "):
            await running.client.import_user(user_id, [])
        with pytest.raises(InvalidArgumentError, match=r"^user_id: "):
            await export(running, user_id)
