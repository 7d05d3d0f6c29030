"""How the parts of an answer are handed to gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from lightmem_server.errors import StoreError
from lightmem_server.service.memory import work_ahead


async def test_the_next_part_is_made_while_one_is_on_its_way() -> None:
    made = {number: asyncio.Event() for number in (1, 2)}

    async def parts() -> AsyncGenerator[int, None]:
        for number in made:
            yield number

    def make(number: int) -> str:
        made[number].set()
        return str(number)

    async with contextlib.aclosing(work_ahead(parts(), make)) as responses:
        assert await anext(responses) == "1"
        await made[2].wait()  # before it is asked for
        assert await anext(responses) == "2"
        assert await anext(responses, None) is None


async def test_leaving_early_ends_the_work() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def parts() -> AsyncGenerator[int, None]:
        try:
            yield 1
            began.set()
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    responses = work_ahead(parts(), str)
    assert await anext(responses) == "1"
    await began.wait()
    await responses.aclose()
    assert ended.is_set()


async def test_an_error_comes_after_the_parts_before_it() -> None:
    async def parts() -> AsyncGenerator[int, None]:
        yield 1
        raise StoreError("the disk could not be read")

    responses = work_ahead(parts(), str)
    assert await anext(responses) == "1"
    with pytest.raises(StoreError):
        await anext(responses)
