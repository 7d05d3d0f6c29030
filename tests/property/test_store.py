"""The store against a dictionary, under every order of commits, replays, changes, deletions, erasures and reopenings."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from lightmem_server.errors import (
    LightMemError,
    NotFoundError,
    RequestReusedError,
    UserErasedError,
    VersionMismatchError,
)
from lightmem_server.store.protocol import Change, Changes, CommitResult
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Kind, Memory, MemoryFilter, Partition, Scalar, State, Statement, Tier
from tests.contract.store_records import make_vector

R = TypeVar("R")

PARTITIONS = [Partition("default", "ada"), Partition("default", "ada%"), Partition("défaut", "ada")]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars: st.SearchStrategy[Scalar] = (
    texts | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
)
memories = st.builds(
    Memory,
    id=st.uuids(),
    tier=st.sampled_from([Tier.MTM, Tier.LTM]),
    kind=st.sampled_from(Kind),
    text=texts,
    occurred_at=st.integers(-(2**62), 2**62),
    created_at=st.integers(0, 2**62),
    session_id=texts,
    speaker=texts,
    confidence=st.floats(0, 1),
    statement=st.none() | st.builds(Statement, texts, texts, texts),
    participants=st.lists(texts, max_size=2).map(tuple),
    evidence_ids=st.lists(st.uuids(), max_size=2).map(tuple),
    previous_id=st.none() | st.uuids(),
    metadata=st.dictionaries(texts, scalars, max_size=3),
    is_pinned=st.booleans(),
    expires_at=st.none() | st.integers(0, 2**62),
    state=st.sampled_from(State),
)

elsewhere = st.sampled_from([None, None, None, *PARTITIONS])
"""Where a record is looked for instead of where it was put: mostly nowhere else."""

Record: TypeAlias = tuple[Partition, uuid.UUID]


@dataclass
class Model:
    """What one partition must hold. `records` are in the order of their first commit."""

    version: int = 0
    records: dict[uuid.UUID, Memory] = field(default_factory=dict)
    deleted: dict[uuid.UUID, int] = field(default_factory=dict)
    requests: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    floor: int = 0
    erased: int = 0
    """The version at which a partition that was erased goes on."""
    refused: set[str] = field(default_factory=set)
    """Requests that were stored before an erasure."""

    def erase(self) -> int:
        """Forget everything; how many records there were."""
        self.erased = max(self.erased, self.version + 1)
        self.refused |= set(self.requests)
        count = len(self.records)
        self.version = self.floor = 0
        self.records, self.deleted, self.requests = {}, {}, {}
        return count

    def apply(self, change: Change) -> CommitResult | type[LightMemError]:
        """Do what the contract says of `commit`, the slow and plain way."""
        if change.request_id in self.refused:
            return UserErasedError
        version = (self.version or self.erased) + 1
        if change.request_id in self.requests:
            digest, result = self.requests[change.request_id]
            if digest != change.request_digest:
                return RequestReusedError
            return CommitResult(self.version, is_replay=True, request_result=result)
        records, deleted = dict(self.records), dict(self.deleted)
        for memory in change.puts:
            stored = records.get(memory.id)
            if memory.id in deleted or (stored is None and memory.version > 1):
                return NotFoundError
            if memory.version != (1 if stored is None else stored.version + 1):
                return VersionMismatchError
            records[memory.id] = memory
        for id_ in change.deletes:
            if id_ not in records:
                return NotFoundError
            del records[id_]
            deleted[id_] = version
        self.records, self.deleted = records, deleted
        self.floor = self.floor if self.version else self.erased
        self.version = version
        if change.request_id:
            self.requests[change.request_id] = (change.request_digest, change.request_result)
        return CommitResult(self.version, is_replay=False, request_result=change.request_result)


class Replica:
    """Follows a partition by `changes_since` alone, as a node's resident copy does."""

    def __init__(self) -> None:
        self.version: int | None = None
        self.rows: dict[uuid.UUID, tuple[int, Memory]] = {}

    def apply(self, changes: Changes) -> None:
        if changes.is_full:
            assert changes.removed_ids == ()
            self.rows.clear()
        for id_ in changes.removed_ids:
            self.rows.pop(id_, None)
        for row in changes.rows:
            if row.memory.id in self.rows:
                assert self.rows[row.memory.id][0] == row.order, "a record keeps its order"
            self.rows[row.memory.id] = (row.order, row.memory)
        self.version = changes.version

    def memories(self) -> list[Memory]:
        return [memory for _, memory in sorted(self.rows.values(), key=lambda row: row[0])]


class StoreMachine(RuleBasedStateMachine):
    ids = Bundle("ids")  # Record
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.models = {partition: Model() for partition in PARTITIONS}
        self.replicas = {partition: Replica() for partition in PARTITIONS}
        self.store = self._open()

    def _open(self) -> SqliteStore:
        store = SqliteStore(Path(self.folder.name) / "data")
        self.run(store.open())
        return store

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self.loop.run_until_complete(coroutine)

    def commit(self, *changes: Change) -> None:
        """Commit together; the store takes them in this order."""
        expected = [self.models[change.partition].apply(change) for change in changes]

        async def commit_all() -> list[CommitResult | BaseException]:
            return await asyncio.gather(*(self.store.commit(change) for change in changes), return_exceptions=True)

        results = self.run(commit_all())
        assert [result if isinstance(result, CommitResult) else type(result) for result in results] == expected

    @rule(
        target=ids,
        partition=st.sampled_from(PARTITIONS),
        batch=st.lists(memories, min_size=1, max_size=3),
        has_vectors=st.booleans(),
    )
    def put(self, partition: Partition, batch: list[Memory], has_vectors: bool) -> Any:
        vectors = [make_vector(memory) for memory in batch] if has_vectors else []
        self.commit(Change(partition, puts=batch, vectors=vectors))
        return multiple(*((partition, memory.id) for memory in batch))

    @rule(
        target=requests,
        partition=st.sampled_from(PARTITIONS),
        memory=memories,
        request_id=st.sampled_from(["r", "R", "r "]),
        digest=st.sampled_from([b"1", b"2"]),
        result=st.binary(max_size=3),
    )
    def put_once(self, partition: Partition, memory: Memory, request_id: str, digest: bytes, result: bytes) -> Change:
        change = Change(partition, puts=[memory], request_id=request_id, request_digest=digest, request_result=result)
        self.commit(change)
        return change

    @rule(change=requests)
    def replay(self, change: Change) -> None:
        self.commit(change)

    @rule(record=ids, elsewhere=elsewhere, like=memories, ahead=st.sampled_from([0, 1, 1, 1, 2]))
    def update(self, record: Record, elsewhere: Partition | None, like: Memory, ahead: int) -> None:
        partition, id_ = elsewhere or record[0], record[1]
        stored = self.models[partition].records.get(id_)
        version = max(1, (stored.version if stored else 0) + ahead)
        self.commit(Change(partition, puts=[replace(like, id=id_, version=version)]))

    @rule(record=consumes(ids), elsewhere=elsewhere, batch=st.lists(memories, max_size=1))
    def delete(self, record: Record, elsewhere: Partition | None, batch: list[Memory]) -> None:
        self.commit(Change(elsewhere or record[0], puts=batch, deletes=[record[1]]))

    @rule(
        records=st.lists(ids, max_size=3), batch=st.lists(st.tuples(st.sampled_from(PARTITIONS), memories), max_size=3)
    )
    def commit_together(self, records: list[Record], batch: list[tuple[Partition, Memory]]) -> None:
        changes = [Change(partition, puts=[memory]) for partition, memory in batch]
        changes += [Change(partition, deletes=[id_]) for partition, id_ in records]
        self.commit(*changes)

    @rule(partition=st.sampled_from(PARTITIONS), share=st.floats(0, 1))
    def purge(self, partition: Partition, share: float) -> None:
        model = self.models[partition]
        up_to = int(model.version * share)
        self.run(self.store.purge_tombstones(partition, up_to))
        model.floor = max(model.floor, up_to)
        model.deleted = {id_: version for id_, version in model.deleted.items() if version > up_to}

    @rule(partition=st.sampled_from(PARTITIONS))
    def erase(self, partition: Partition) -> None:
        erased = self.run(self.store.erase(partition, now=1))
        assert erased.memory_count == self.models[partition].erase()

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = self._open()

    @rule()
    def follow(self) -> None:
        for partition, model in self.models.items():
            replica = self.replicas[partition]
            changes = self.run(self.store.changes_since(partition, replica.version))
            if model.version:
                assert changes.is_full == (replica.version is None or replica.version < model.floor)
            else:
                assert changes.is_full == (replica.version != 0)
            replica.apply(changes)
            assert replica.version == model.version
            assert replica.memories() == list(model.records.values())

    @invariant()
    def lists_what_the_model_holds(self) -> None:
        for partition, model in self.models.items():
            valid_at_all_times = MemoryFilter(include_archived=True)
            page = self.run(self.store.list_page(partition, valid_at_all_times, limit=1000, before_order=None, now=0))
            assert list(page.memories) == list(model.records.values())[::-1]

    def teardown(self) -> None:
        self.run(self.store.close())
        self.folder.cleanup()
        self.loop.close()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, report_multiple_bugs=False)
