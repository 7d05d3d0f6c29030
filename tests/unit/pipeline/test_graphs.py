"""Graphs of large partitions: built in the background, used by Retrieve, said in the trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
from structlog.testing import capture_logs

from lightmem_server.pipeline.graphs import GraphBuilder
from lightmem_server.pipeline.retrieval import SelectorMode
from lightmem_server.types import MemoryFilter, Partition, Turn
from tests.unit.pipeline.conftest import ANA, Pipeline

ANN_ROWS = 40


@pytest.fixture
def ann_rows() -> int:
    return ANN_ROWS


@asynccontextmanager
async def running(builder: GraphBuilder) -> AsyncIterator[None]:
    with closing(builder):
        task = asyncio.create_task(builder.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_built(pipeline: Pipeline) -> None:
    async with asyncio.timeout(30):
        await pipeline.graphs.idle.wait()
    assert not pipeline.engine.ann_due(ANA.key)


async def fill(pipeline: Pipeline, count: int = 60) -> None:
    await pipeline.write(*(Turn(f"tea number {i} of place {i % 7}") for i in range(count)))


async def test_a_large_partition_is_answered_by_its_graph_and_the_trace_says_so(pipeline: Pipeline) -> None:
    async with running(pipeline.graphs):
        await fill(pipeline)
        await until_built(pipeline)
        trace = await pipeline.trace("tea number 42", selector_mode=SelectorMode.OFF)
        assert trace.is_approximate
        assert trace.candidates[0].memory is not None
        assert trace.candidates[0].memory.text == "tea number 42 of place 0"


async def test_it_is_searched_exactly_before_and_while_a_filter_is_narrow(pipeline: Pipeline) -> None:
    await fill(pipeline)
    assert not (await pipeline.trace("tea number 42")).is_approximate
    await pipeline.write(Turn("one more"), session_id="other")
    async with running(pipeline.graphs):
        await until_built(pipeline)
        assert (await pipeline.trace("tea")).is_approximate
        narrow = MemoryFilter(session_ids=frozenset({"other"}))
        assert not (await pipeline.trace("tea", filter=narrow)).is_approximate


async def test_a_small_partition_gets_no_graph(pipeline: Pipeline) -> None:
    async with running(pipeline.graphs):
        await fill(pipeline, ANN_ROWS - 1)
        assert not pipeline.engine.ann_due(ANA.key)
        assert not (await pipeline.trace("tea")).is_approximate


async def test_a_partition_that_is_loaded_again_gets_a_new_graph(pipeline: Pipeline) -> None:
    async with running(pipeline.graphs):
        await fill(pipeline)
        await until_built(pipeline)
        pipeline.engine.evict(ANA.key)
        await pipeline.trace("tea")
        await until_built(pipeline)
        assert (await pipeline.trace("tea")).is_approximate


async def test_one_that_fails_does_not_end_the_others(pipeline: Pipeline) -> None:
    await fill(pipeline)
    with capture_logs() as logs:
        async with running(pipeline.graphs):
            # No such partition: left out without a word.
            pipeline.graphs.notice(Partition("default", "nobody"), 0, is_full=False)
            await until_built(pipeline)
    assert [entry["event"] for entry in logs if entry["event"].startswith("graph")] == ["graph_built"]


async def test_a_drain_ends_a_build_between_two_steps(pipeline: Pipeline) -> None:
    await fill(pipeline, 600)
    async with running(pipeline.graphs):
        await asyncio.sleep(0)
    assert pipeline.engine.ann_due(ANA.key)
    assert not (await pipeline.trace("tea")).is_approximate
