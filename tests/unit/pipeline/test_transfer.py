"""An export or import that is under way when its user is erased, and one that nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lightmem_server.errors import UserErasedError
from lightmem_server.pipeline import transfer
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.portable import write_line
from lightmem_server.pipeline.transfer import Exporting, Importing
from lightmem_server.slm.fakes import HashEmbedder
from lightmem_server.store.transfer_protocol import Carried
from lightmem_server.types import Turn
from tests.unit.pipeline.conftest import ANA, DIM, Pipeline


@pytest.fixture
def exporting(pipeline: Pipeline, tmp_path: Path) -> Exporting:
    return Exporting(pipeline.store, embedding="hash", spool_dir=tmp_path)


def names(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.fixture
def importing(pipeline: Pipeline) -> Importing:
    return Importing(
        pipeline.store, pipeline.residents, HashEmbedder(DIM), embedding="hash", clock=Clock(), max_text_bytes=1000
    )


async def test_an_export_ends_with_its_user(
    pipeline: Pipeline, exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PART_BYTES", 1)
    await pipeline.write(*(Turn(f"It rains {number}.") for number in range(3)))
    async with contextlib.aclosing(exporting.export(ANA)) as parts:
        first = await anext(parts)
        assert (len(first.lines), first.done, first.total) == (1, 1, 4)
        await pipeline.store.erase(ANA, now=1)
        with pytest.raises(UserErasedError):
            await anext(parts)


async def test_what_waits_for_the_reader_has_no_name(pipeline: Pipeline, exporting: Exporting, tmp_path: Path) -> None:
    await pipeline.write(Turn("It rains."))
    before = names(tmp_path)
    async with contextlib.aclosing(exporting.export(ANA)) as parts:
        await anext(parts)
        assert names(tmp_path) == before


async def test_an_import_ends_with_its_user(
    pipeline: Pipeline, exporting: Exporting, importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "BATCH_ITEMS", 1)
    await pipeline.write(Turn("It rains."), Turn("It snows."))
    lines = [line async for part in exporting.export(ANA) for line in part.lines]
    await pipeline.store.erase(ANA, now=1)

    async def erased_in_the_middle() -> AsyncIterator[str]:
        yield lines[0]
        yield lines[1]
        await pipeline.store.erase(ANA, now=2)
        yield lines[2]

    with pytest.raises(UserErasedError):
        await importing.import_(ANA, erased_in_the_middle())
    assert (await pipeline.store.changes_since(ANA, None)).rows == ()


async def test_a_reader_who_leaves_ends_the_reading_of_the_store(
    pipeline: Pipeline, exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pipeline.write(*(Turn(f"It rains {number}.") for number in range(20)))
    reached, go_on, written = threading.Event(), threading.Event(), 0

    def slowly(carried: Carried, *, embedding: str) -> str:
        nonlocal written
        written += 1
        reached.set()
        go_on.wait(30)
        return write_line(carried, embedding=embedding)

    monkeypatch.setattr(transfer, "write_line", slowly)
    reading = asyncio.ensure_future(anext(exporting.export(ANA)))
    await asyncio.to_thread(reached.wait, 30)
    reading.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert written < 20
