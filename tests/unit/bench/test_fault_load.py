"""The load tells how its calls ended as the server said it."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.bench.fault_ledger import Write
from tests.bench.fault_load import Caller

DRAINING = """
import asyncio, grpc, grpc.aio
from lightmem_client.pb import memory_service_pb2_grpc

class Draining(memory_service_pb2_grpc.MemoryServiceServicer):
    async def Write(self, requests, context):
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining")
        yield

async def main():
    server = grpc.aio.server()
    memory_service_pb2_grpc.add_MemoryServiceServicer_to_server(Draining(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()

asyncio.run(main())
"""
"""Refuses every stream at once. In a process of its own: in one with the client it is hardly ever quick enough."""

TEXT = "x" * 100_000
"""So long that about every other call is over while it is sent."""


@pytest.fixture
def address() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", DRAINING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


async def test_a_write_that_is_refused_while_it_is_sent_ends_with_what_the_server_said(address: str) -> None:
    caller = Caller(address, "", random.Random(0))

    async def write(number: int) -> None:
        with caller.until_it_dies("edit"):
            await caller.write("ann", Write(f"r{number}", "s", (TEXT,)))

    async with caller.connect():
        for _ in range(10):
            await asyncio.gather(*(write(number) for number in range(30)))
    assert caller.ended == {"UNAVAILABLE": 300}
    assert "the server is draining" in caller.last_words["UNAVAILABLE"]
