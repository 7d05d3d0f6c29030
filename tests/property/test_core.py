"""The engine, through its Python door, against a dict: random histories of loads, changes, removals and evictions.

The ranking itself is checked against a brute-force model by the core's own tests; here it is that nothing is lost, mixed
up or seen by another partition on the way through the binding.
"""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lightmem_server.core import ALWAYS, NEVER, Engine, Rows, SearchFilter, SearchPlan
from lightmem_server.types import Condition, Operator

DIM = 8
KEYS = ["1:a/x", "1:a/y"]
NUMBERS = st.integers(0, 15)
BATCH = st.dictionaries(NUMBERS, st.tuples(st.integers(0, DIM - 1), st.integers(0, 3)), max_size=8)
"""Memory number to (axis of its vector, group in its metadata)."""


def to_bytes(number: int) -> bytes:
    return number.to_bytes(16, "little")


def to_rows(batch: dict[int, tuple[int, int]], orders: dict[int, int]) -> Rows:
    numbers = sorted(batch, key=lambda number: orders[number])
    n = len(numbers)
    vectors = np.zeros((n, 2, DIM), np.float32)
    for i, number in enumerate(numbers):
        vectors[i, :, batch[number][0]] = 1
    return Rows(
        ids=np.frombuffer(b"".join(map(to_bytes, numbers)), np.uint8).reshape(n, 16),
        vectors=vectors,
        texts=[[f"word{number}", f"axis{batch[number][0]}"] for number in numbers],
        tiers=np.full(n, 2, np.uint8),
        kinds=np.ones(n, np.uint8),
        sessions=["s"] * n,
        agents=[""] * n,
        occurred_at=np.arange(n, dtype=np.int64),
        valid_from=np.full(n, ALWAYS),
        valid_to=np.full(n, NEVER),
        expires_at=np.full(n, NEVER),
        token_counts=np.ones(n, np.uint32),
        is_archived=np.zeros(n, np.bool_),
        is_pinned=np.zeros(n, np.bool_),
        in_ring=np.ones(n, np.bool_),
        metadata=[{"group": batch[number][1]} for number in numbers],
        orders=np.array([orders[number] for number in numbers], np.uint64),
    )


def to_plan(axis: int | None, text: str, filter_: SearchFilter) -> SearchPlan:
    vectors = np.eye(DIM, dtype=np.float32)[[axis] if axis is not None else []]
    return SearchPlan(
        vectors=vectors,
        texts=[text] if text else [],
        vector_weights=[1.0] * len(vectors),
        text_weights=[1.0] if text else [],
        dense_weights=[1.0, 0.0],
        lexical_weights=[1.0, 1.0],
        list_depth=100,
        max_candidates=100,
        now=0,
        filter=filter_,
    )


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(dim=DIM, budget_bytes=1 << 24, stm_turns=4, stm_tokens=100)
        self.models: dict[str, dict[int, tuple[int, int]]] = {}
        self.orders: dict[str, dict[int, int]] = {key: {} for key in KEYS}
        self.versions: dict[str, int] = {}
        self.clock = 0

    def commit(self, key: str, batch: dict[int, tuple[int, int]]) -> None:
        for number in batch:
            self.clock += 1
            self.orders[key].setdefault(number, self.clock)

    @rule(key=st.sampled_from(KEYS), batch=BATCH)
    def load(self, key: str, batch: dict[int, tuple[int, int]]) -> None:
        self.orders[key] = {}
        self.commit(key, batch)
        self.versions[key] = self.versions.get(key, 0) + 1
        self.engine.load(key, self.versions[key], to_rows(batch, self.orders[key]))
        self.models[key] = dict(batch)

    @rule(key=st.sampled_from(KEYS), batch=BATCH, removed=st.sets(NUMBERS, max_size=5))
    def apply(self, key: str, batch: dict[int, tuple[int, int]], removed: set[int]) -> None:
        removed = removed - set(batch)
        for number in removed:
            self.orders[key].pop(number, None)
        self.commit(key, batch)
        ids = np.frombuffer(b"".join(map(to_bytes, removed)), np.uint8).reshape(len(removed), 16)
        version = self.versions.get(key, 0)
        applied = self.engine.apply(key, version, version + 2, to_rows(batch, self.orders[key]), ids)
        assert applied == (key in self.models)
        if applied:
            self.versions[key] = version + 2
            model = self.models[key]
            self.models[key] = {n: row for n, row in model.items() if n not in removed} | batch

    @rule(key=st.sampled_from(KEYS))
    def evict(self, key: str) -> None:
        assert self.engine.evict(key) == (self.models.pop(key, None) is not None)

    @rule(key=st.sampled_from(KEYS), axis=st.integers(0, DIM - 1), group=st.none() | st.integers(0, 3))
    def search_by_vector(self, key: str, axis: int, group: int | None) -> None:
        filter_ = SearchFilter(metadata=None if group is None else Condition("group", Operator.EQ, (group,)))
        found = self.engine.search(key, to_plan(axis, "", filter_))
        if key not in self.models:
            assert found is None
            return
        assert found is not None
        matching = {n: row for n, row in self.models[key].items() if group is None or row[1] == group}
        expected = sorted(matching, key=lambda n: (matching[n][0] != axis, -self.orders[key][n]))
        assert [row.tobytes() for row in found.ids] == [to_bytes(n) for n in expected]
        assert found.similarities.tolist() == [float(matching[n][0] == axis) for n in expected]
        assert found.matched_count == len(matching)

    @rule(key=st.sampled_from(KEYS), number=NUMBERS)
    def search_by_word(self, key: str, number: int) -> None:
        found = self.engine.search(key, to_plan(None, f"word{number}", SearchFilter()))
        if found is not None:
            assert [row.tobytes() for row in found.ids] == [to_bytes(number)] * (number in self.models[key])

    @invariant()
    def what_is_resident_is_the_model(self) -> None:
        for key in KEYS:
            model = self.models.get(key)
            assert self.engine.version(key) == (None if model is None else self.versions[key])
            ring = self.engine.session_ring(key, "s")
            if model is None:
                assert ring is None
            else:
                newest = sorted(model, key=lambda n, key=key: self.orders[key][n])[-4:]  # type: ignore[misc]
                assert ring == [to_bytes(n) for n in newest]
        stats = self.engine.stats()
        assert stats.rows == sum(map(len, self.models.values()))
        assert stats.partitions == len(self.models)


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
