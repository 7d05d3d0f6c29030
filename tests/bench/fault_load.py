"""The mixed load of the crash harness: streams, single writes, updates, deletions, erasures, retrievals,
consolidation, backups.

It speaks plain gRPC without retries: what was acknowledged, and what was under way when the server died, must be known
exactly.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from lightmem_client._first_status import typed_stream_errors
from lightmem_client.errors import LightMemError
from lightmem_client.pb import admin_service_pb2 as admin_pb
from lightmem_client.pb import admin_service_pb2_grpc, memory_pb2, memory_service_pb2_grpc
from lightmem_client.pb import memory_service_pb2 as pb

from tests.bench.fault_ledger import Delete, Erase, Ledger, Stored, Update, Write

IN_FLIGHT = 16
"""Requests of one stream that wait for their acknowledgement."""

CALL_SECONDS = 30
"""A guard against hanging, not a measurement."""

SAID = (
    "I moved to Porto in May.",
    "My sister Rita bakes bread.",
    "I work as a nurse in Braga.",
    "We have a dog called Nino.",
    "I don't like olives any more.",
)
"""What consolidation finds facts in."""

LETTERS = "abcäöü ßé 北京 \U0001f600 \"'\\%_\n\t"


@dataclass
class Caller:
    """One server, as one client knows it."""

    address: str
    key: str
    rng: random.Random
    ended: Counter[str] = field(default_factory=Counter)
    """How the calls that failed ended."""
    last_words: dict[str, str] = field(default_factory=dict)
    """What the last call said that ended so."""
    at_work: Counter[str] = field(default_factory=Counter)
    """What is under way."""
    missed: list[str] = field(default_factory=list)
    """What was acknowledged and could not be found by a query at once."""

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        """The stubs, for as long as it lasts."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            self.memory: Any = memory_service_pb2_grpc.MemoryServiceStub(channel)
            self.admin: Any = admin_service_pb2_grpc.AdminServiceStub(channel)
            yield

    @property
    def options(self) -> dict[str, Any]:
        """What every call has."""
        return {"metadata": (("authorization", f"Bearer {self.key}"),), "timeout": CALL_SECONDS}

    @contextmanager
    def until_it_dies(self, what: str) -> Iterator[None]:
        """Ends quietly with the first call that fails."""
        self.at_work[what] += 1
        try:
            yield
        except grpc.aio.AioRpcError as error:
            self._note_end(error.code().name, f"{what}: {error.details()}")
        except LightMemError as error:
            self._note_end(error.status.name, f"{what}: {error}")
        else:
            self.at_work[what] -= 1

    def _note_end(self, status: str, words: str) -> None:
        self.ended[status] += 1
        self.last_words[status] = words

    # The load, each for ever

    async def stream(self, ledger: Ledger) -> None:
        """Requests of a few turns on one stream, several under way."""
        places = asyncio.Semaphore(IN_FLIGHT)
        sent: asyncio.Queue[Write] = asyncio.Queue()
        with self.until_it_dies("stream"):
            call = self.memory.Write(metadata=self.options["metadata"])

            async def send() -> None:
                number = 0
                while True:
                    await places.acquire()
                    write = self._new_write(ledger, turns=self.rng.randint(1, 4), session_id=f"s{number // 20}")
                    number += 1
                    sent.put_nowait(write)
                    await call.write(to_request(ledger.user_id, write))

            sending = asyncio.create_task(send())
            try:
                with typed_stream_errors(call):  # as in `replay`
                    await self._read(call, ledger, sent, places)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _read(self, call: Any, ledger: Ledger, sent: asyncio.Queue[Write], places: asyncio.Semaphore) -> None:
        while True:
            response = await call.read()
            if response is grpc.aio.EOF:
                await call  # raises how it ended
                return
            ledger.acknowledge(sent.get_nowait(), response.memory_ids)
            places.release()

    async def edit(self, ledger: Ledger) -> None:
        """One call after the other: writes that are looked for at once, updates, deletions."""
        with self.until_it_dies("edit"):
            while True:
                drawn = self.rng.random()
                if drawn < 0.5 or len(ledger.turns) < 5:
                    write = self._new_write(ledger, turns=1)
                    ids = await self.write(ledger.user_id, write)
                    ledger.acknowledge(write, ids)
                    if drawn < 0.1:
                        await self._look_for(ledger, write)
                elif drawn < 0.8:
                    memory_id = self.rng.choice(list(ledger.turns))
                    update = Update(memory_id, ledger.turns[memory_id].version, self.rng.getrandbits(30))
                    ledger.begin(update)
                    await self._update(ledger.user_id, update)
                    ledger.acknowledge(update)
                else:
                    delete = Delete(self.rng.choice(list(ledger.turns)))
                    ledger.begin(delete)
                    scope = memory_pb2.Scope(user_id=ledger.user_id)
                    await self.memory.DeleteMemory(
                        pb.DeleteMemoryRequest(scope=scope, memory_id=delete.memory_id), **self.options
                    )
                    ledger.acknowledge(delete)

    async def talk(self, ledger: Ledger) -> None:
        """Turns that are consolidated as soon as they are said."""
        with self.until_it_dies("talk"):
            while True:
                session_id = f"s{self.rng.getrandbits(60)}"
                for _ in range(self.rng.randint(1, 4)):
                    write = self._new_write(ledger, turns=1, session_id=session_id, said=self.rng.choice(SAID))
                    ledger.acknowledge(write, await self.write(ledger.user_id, write))
                self.at_work["consolidation"] += 1
                await self.consolidate(ledger.user_id)
                self.at_work["consolidation"] -= 1

    async def erase(self, ledger: Ledger) -> None:
        """A user who comes, says a little, and is erased, again and again."""
        with self.until_it_dies("erase"):
            while True:
                for _ in range(self.rng.randint(1, 5)):
                    write = self._new_write(ledger, turns=2, session_id="s")
                    ledger.acknowledge(write, await self.write(ledger.user_id, write))
                erase = Erase()
                ledger.begin(erase)
                self.at_work["erasure"] += 1
                await self.admin.EraseUser(admin_pb.EraseUserRequest(user_id=ledger.user_id), **self.options)
                self.at_work["erasure"] -= 1
                ledger.acknowledge(erase)

    async def back_up(self, ledgers: Sequence[Ledger], backups: dict[str, set[str]]) -> None:
        """Backups, one after the other; those that were acknowledged, with the ids that they must hold."""
        with self.until_it_dies("backups"):
            while True:
                name = f"b{self.rng.getrandbits(60)}"
                before = {memory_id for ledger in ledgers for memory_id in ledger.turns}
                self.at_work["backup"] += 1
                try:
                    async for response in self.admin.Backup(admin_pb.BackupRequest(name=name), **self.options):
                        if response.stage == "done":
                            backups[name] = before
                except grpc.aio.AioRpcError as error:
                    if "erased" not in (error.details() or ""):  # an erasure ends the backup at work
                        raise
                self.at_work["backup"] -= 1

    # Calls

    async def write(self, user_id: str, write: Write) -> tuple[str, ...]:
        """One write on a stream of its own; its ids."""
        return (await self.replay(user_id, write))[1]

    async def replay(self, user_id: str, write: Write) -> tuple[bool, tuple[str, ...]]:
        """A write, perhaps again: whether it had been done before, and its ids."""
        call = self.memory.Write(iter([to_request(user_id, write)]), **self.options)
        with typed_stream_errors(call):  # gRPC itself says INTERNAL where the call ends while the request is sent
            (response,) = [each async for each in call]
        return response.is_replay, tuple(response.memory_ids)

    async def consolidate(self, user_id: str) -> str:
        """Consolidate a user, or follow the run at work; the last stage."""
        request = admin_pb.ConsolidateRequest(user_id=user_id)
        return [response.stage async for response in self.admin.Consolidate(request, **self.options)][-1]

    async def list_all(self, user_id: str) -> list[memory_pb2.Memory]:
        """Everything of a user, archived memories too."""
        found: list[memory_pb2.Memory] = []
        token = ""
        while True:
            request = pb.ListMemoriesRequest(
                scope=memory_pb2.Scope(user_id=user_id),
                filter=memory_pb2.MemoryFilter(include_archived=True),
                page_size=100,
                page_token=token,
            )
            response = await self.memory.ListMemories(request, **self.options)
            found += response.memories
            token = response.next_page_token
            if not token:
                return found

    async def _update(self, user_id: str, update: Update) -> None:
        request = pb.UpdateMemoryRequest(scope=memory_pb2.Scope(user_id=user_id), expected_version=update.version)
        request.memory.id = update.memory_id
        request.memory.metadata["number"].int_value = update.number
        request.update_mask.paths.append("metadata")
        await self.memory.UpdateMemory(request, **self.options)

    async def _look_for(self, ledger: Ledger, write: Write) -> None:
        """What was acknowledged is found by the next query."""
        request = pb.RetrieveRequest(
            scope=memory_pb2.Scope(user_id=ledger.user_id),
            query=write.request_id,
            exclude_context=True,
        )
        request.budget.deadline.FromSeconds(5)
        async for part in self.memory.Retrieve(request, **self.options):
            if part.HasField("memories") and write.ids[0] not in [hit.memory.id for hit in part.memories.memories]:
                self.missed.append(f"{ledger.user_id}: {write.ids[0]} was acknowledged and no query found it")

    def _new_write(self, ledger: Ledger, *, turns: int, session_id: str | None = None, said: str = "") -> Write:
        """Begin a write of turns whose texts are nobody else's."""
        request_id = f"r{self.rng.getrandbits(60)}"
        noise = "".join(self.rng.choices(LETTERS, k=self.rng.randint(0, 200)))
        texts = tuple(f"{said} {request_id} {place}.{noise}." for place in range(turns))
        write = Write(request_id, session_id or request_id, texts)
        ledger.begin(write)
        return write


def to_request(user_id: str, write: Write) -> pb.WriteRequest:
    """A write as it is sent."""
    return pb.WriteRequest(
        scope=memory_pb2.Scope(user_id=user_id, session_id=write.session_id),
        request_id=write.request_id,
        turns=[memory_pb2.Turn(text=text, speaker="Ann") for text in write.texts],
    )


def to_stored(memory: memory_pb2.Memory) -> Stored:
    """A turn as it came back."""
    number = memory.metadata["number"].int_value if "number" in memory.metadata else None
    return Stored(memory.text, memory.version, number)
