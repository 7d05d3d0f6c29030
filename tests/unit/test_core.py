"""The door to the Rust core: what crosses it, and what it refuses. What is found is the business of the core's own
tests and of tests/property/test_core.py."""

from __future__ import annotations

import dataclasses
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from lightmem_server.core import (
    ALWAYS,
    HEAT_HALF_LIFE,
    NEVER,
    Engine,
    Ids,
    Rows,
    SearchFilter,
    SearchPlan,
    cpu_features,
)
from lightmem_server.errors import CoreError, SnapshotError
from lightmem_server.types import AllOf, AnyOf, Condition, Kind, MetadataExpression, Not, Operator, Tier

DIM = 4
NOTHING = np.zeros((0, 16), np.uint8)


def unit(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.zeros(DIM, np.float32)
    vector[: len(values)] = values
    return vector / (np.linalg.norm(vector) or 1)


def to_id(number: int) -> Ids:
    return np.frombuffer(number.to_bytes(16, "big"), np.uint8)


def numbers(ids: Ids) -> list[int]:
    return [int.from_bytes(row.tobytes(), "big") for row in ids]


def make_rows(count: int, *, first: int = 1, **columns: Any) -> Rows:
    """Turns `first`, `first + 1`, ...: row i says "topic i" and points to axis i modulo DIM."""
    ids = range(first, first + count)
    vectors = np.array([[np.eye(DIM)[i % DIM]] * 2 for i in ids], np.float32).reshape(count, 2, DIM)
    rows = Rows(
        ids=np.array([to_id(i) for i in ids], np.uint8).reshape(count, 16),
        vectors=vectors,
        texts=[[f"topic{i}", f"before{i} topic{i}"] for i in ids],
        tiers=np.full(count, Tier.MTM, np.uint8),
        kinds=np.full(count, Kind.TURN, np.uint8),
        sessions=["s"] * count,
        agents=["a"] * count,
        occurred_at=np.array(ids, np.int64),
        valid_from=np.full(count, ALWAYS, np.int64),
        valid_to=np.full(count, NEVER, np.int64),
        expires_at=np.full(count, NEVER, np.int64),
        token_counts=np.ones(count, np.uint32),
        is_archived=np.zeros(count, np.bool_),
        is_pinned=np.zeros(count, np.bool_),
        in_ring=np.ones(count, np.bool_),
        metadata=[{} for _ in ids],
        orders=np.array(ids, np.uint64),
    )
    return dataclasses.replace(rows, **columns)


def make_plan(**fields: Any) -> SearchPlan:
    plan = SearchPlan(
        vectors=np.zeros((0, DIM), np.float32),
        texts=[],
        vector_weights=[1.0] * len(fields.get("vectors", ())),
        text_weights=[1.0] * len(fields.get("texts", ())),
        dense_weights=[1.0, 1.0],
        lexical_weights=[1.0, 1.0],
        list_depth=10,
        max_candidates=10,
        now=1000,
    )
    return plan.replace(**fields)


@pytest.fixture
def engine() -> Engine:
    return Engine(dim=DIM, budget_bytes=1 << 26, stm_turns=3, stm_tokens=10)


def found(engine: Engine, **fields: Any) -> list[int]:
    result = engine.search("p", make_plan(**fields))
    assert result is not None
    return numbers(result.ids)


def test_a_partition_is_not_resident_until_loaded(engine: Engine) -> None:
    assert engine.version("p") is None
    assert engine.search("p", make_plan()) is None
    assert engine.session_ring("p", "s") is None
    assert not engine.evict("p")
    assert not engine.apply("p", 1, 2, make_rows(1), NOTHING)
    engine.load("p", 7, make_rows(0))
    assert engine.version("p") == 7
    assert engine.evict("p")
    assert engine.version("p") is None


def test_a_read_is_quick_where_the_partition_is_resident_and_small(engine: Engine) -> None:
    assert not engine.is_quick("p", 100)
    engine.load("p", 1, make_rows(4))
    assert engine.is_quick("p", 4)
    assert not engine.is_quick("p", 3)


def test_hybrid_search_reports_ranks_per_source(engine: Engine) -> None:
    engine.load("p", 1, make_rows(4))
    result = engine.search("p", make_plan(vectors=unit(0, 1)[None], texts=["before2"]))
    assert result is not None
    assert result.sources == ["dense_turn", "dense_window", "lexical_turn", "lexical_window"]
    # Of the rows that are orthogonal to the query, the newest comes first.
    assert numbers(result.ids) == [2, 1, 4, 3]
    assert result.ranks.tolist() == [[4, 4, 0, 1], [1, 1, 0, 0], [2, 2, 0, 0], [3, 3, 0, 0]]
    assert result.similarities.tolist() == pytest.approx([0, 1, 0, 0], abs=1e-6)
    assert result.scores.tolist() == pytest.approx([2 / 64 + 1 / 61, 2 / 61, 2 / 62, 2 / 63])
    assert (result.matched_count, result.scanned_count, result.is_complete) == (4, 4, True)
    assert result.ids.dtype == np.uint8
    assert result.ranks.dtype == np.uint32
    assert result.scores.dtype == result.similarities.dtype == np.float32


def test_score_fusion_says_what_each_score_is_made_of(engine: Engine) -> None:
    priors = np.array([0.5, 0, 0, -1], np.float32)
    engine.load("p", 1, make_rows(4, speakers=["ann", "bob", "ann", ""], priors=priors, session_texts=["x"] * 4))
    plan = make_plan(
        vectors=unit(0, 1)[None],
        texts=["before2"],
        dense_weights=[1.0, 0.5],
        lexical_weights=[0.0, 2.0],
        fusion="score",
        speakers=["ann"],
        speaker_boost=0.25,
        prior_weight=0.5,
        boost=3.0,
        boost_from=3,
        boost_to=4,
    )
    result = engine.search("p", plan)
    assert result is not None
    names = result.part_names
    assert names == [*result.sources, "session", "prior", "speaker", "time", "heat", "link"]
    assert (result.parts.shape, result.parts.dtype) == ((4, len(names)), np.float32)
    weights = [1.0, 0.5, 0.0, 2.0, 0.0, 0.5, 0.25, 3.0, 0.0, 0.0]
    assert result.scores.tolist() == pytest.approx((result.parts @ weights).tolist())
    parts = dict(zip(numbers(result.ids), result.parts.tolist(), strict=True))
    # Row 1 is what the query points to; the mean cosine of all four is 1/4.
    below = pytest.approx(-1 / 3, abs=0.01)
    assert parts == {
        1: [1, 1, 0, 0, 0, 0.5, 1, 0, 0, 0],
        2: [below, below, 0, 1, 0, 0, 0, 0, 0, 0],
        3: [below, below, 0, 0, 0, 0, 1, 1, 0, 0],
        4: [below, below, 0, 0, 0, -1, 0, 0, 0, 0],
    }


def test_fusion_by_ranks_has_no_parts(engine: Engine) -> None:
    engine.load("p", 1, make_rows(4))
    result = engine.search("p", make_plan(texts=["topic2"]))
    assert result is not None
    assert (result.parts.shape, result.part_names) == ((1, 0), [])


def test_links_bring_up_what_a_hit_rests_on(engine: Engine) -> None:
    links = [b"", b"", to_id(1).tobytes() + to_id(9).tobytes()]
    engine.load("p", 1, make_rows(3, links=links))
    assert found(engine, texts=["topic3"]) == [3]
    result = engine.search("p", make_plan(texts=["topic3"], link_weight=0.5))
    assert result is not None
    assert numbers(result.ids) == [3, 1]
    assert result.scores[1] == pytest.approx(result.scores[0] / 2)
    assert result.ranks[1].tolist() == [0, 0, 0, 0]
    # The other way round, and to what came later.
    assert engine.apply("p", 1, 2, make_rows(1, first=9), NOTHING)
    assert found(engine, texts=["topic9"], link_weight=0.5) == [9, 3]
    assert found(engine, texts=["topic1"], link_weight=0.5) == [1, 3]


def test_a_repetition_is_reported_with_what_it_repeats(engine: Engine) -> None:
    engine.load("p", 1, make_rows(8))
    result = engine.search("p", make_plan(vectors=unit(1, 0.5)[None], duplicate_similarity=0.9))
    assert result is not None
    assert numbers(result.ids) == [8, 5, 7, 6]
    assert numbers(result.duplicate_ids) == [4, 1, 3, 2]
    assert result.duplicate_of.tolist() == [0, 1, 2, 3]
    without = engine.search("p", make_plan(vectors=unit(1)[None]))
    assert without is not None
    assert (len(without.ids), without.duplicate_ids.shape, without.duplicate_of.shape) == (8, (0, 16), (0,))


def test_heat_counts_accesses_and_fades(engine: Engine) -> None:
    now = 10 * HEAT_HALF_LIFE
    heats = np.array([3, 0], np.float32)
    engine.load("p", 1, make_rows(2, heats=heats, heats_since=np.array([now - HEAT_HALF_LIFE, 0])))
    assert engine.touch("p", np.array([to_id(2), to_id(9)]), now)
    assert not engine.touch("q", np.array([to_id(2)]), now)
    assert engine.version("p") == 1
    plan = make_plan(texts=["topic1 topic2"], fusion="score", heat_weight=1.0, now=now)
    result = engine.search("p", plan)
    assert result is not None
    parts = dict(zip(numbers(result.ids), result.parts[:, result.part_names.index("heat")].tolist(), strict=True))
    assert parts == pytest.approx({1: 1.5 / 2.5, 2: 1 / 2})


def test_a_partition_has_the_language_it_is_loaded_in(engine: Engine) -> None:
    rows = make_rows(1, texts=[["Häuser", "Häuser"]])
    engine.load("p", 1, rows, "german")
    assert found(engine, texts=["Haus"]) == [1]
    snapshot = engine.export("p")
    assert snapshot is not None
    with pytest.raises(CoreError, match="language"):
        engine.import_("p", snapshot)
    assert engine.import_("p", snapshot, "german") == 1
    for refuse in [lambda: engine.load("p", 2, rows, "klingon"), lambda: engine.check_language("klingon")]:
        with pytest.raises(CoreError, match="klingon"):
            refuse()
    engine.check_language("none")


def test_sizes_add_up_and_tell_the_rescoring_planes(engine: Engine) -> None:
    assert engine.sizes("p") is None
    engine.load("p", 1, make_rows(100))
    lean = Engine(dim=DIM, budget_bytes=1 << 26, stm_turns=3, stm_tokens=10, rescore_vectors=False)
    lean.load("p", 1, make_rows(100))
    full_sizes, lean_sizes = engine.sizes("p"), lean.sizes("p")
    assert full_sizes is not None
    assert lean_sizes is not None
    assert (full_sizes.vectors_rescore, lean_sizes.vectors_rescore) == (100 * 2 * 64, 0)
    assert full_sizes.vectors_scan == lean_sizes.vectors_scan == 100 * 2 * (64 + 4)
    assert full_sizes.total < engine.stats().size_bytes < full_sizes.total + 4096


def test_a_query_of_stop_words_finds_nothing(engine: Engine) -> None:
    engine.load("p", 1, make_rows(4))
    assert found(engine, texts=["what is it that they were"]) == []
    assert found(engine, texts=[""]) == []


def test_rows_without_vectors_are_found_by_words_alone(engine: Engine) -> None:
    engine.load("p", 1, make_rows(3, vectors=np.zeros((3, 2, DIM), np.float32)))
    assert found(engine, vectors=unit(1)[None]) == []
    result = engine.search("p", make_plan(vectors=unit(1)[None], texts=["topic2"]))
    assert result is not None
    assert numbers(result.ids) == [2]
    assert np.isnan(result.similarities).all()


def test_lexical_search_has_no_similarities(engine: Engine) -> None:
    engine.load("p", 1, make_rows(3))
    result = engine.search("p", make_plan(texts=["topic3"]))
    assert result is not None
    assert numbers(result.ids) == [3]
    assert np.isnan(result.similarities).all()


def test_apply_changes_adds_and_removes(engine: Engine) -> None:
    engine.load("p", 1, make_rows(4))
    changed = make_rows(2, first=4, texts=[["walrus", "walrus"], ["penguin", "penguin"]])
    assert not engine.apply("p", 2, 3, changed, NOTHING)
    assert engine.apply("p", 1, 2, changed, np.array([to_id(1), to_id(99)]))
    assert engine.version("p") == 2
    assert found(engine, texts=["topic1 topic4"]) == []
    assert found(engine, texts=["penguins"]) == [5]
    assert sorted(found(engine, vectors=unit(1)[None])) == [2, 3, 4, 5]


def test_a_refused_change_changes_nothing(engine: Engine) -> None:
    engine.load("p", 1, make_rows(2))
    vectors = np.zeros((2, 2, DIM), np.float32)
    vectors[1, 1, 0] = np.nan
    with pytest.raises(CoreError, match="vectors"):
        engine.apply("p", 1, 2, make_rows(2, first=3, vectors=vectors), np.array([to_id(1)]))
    with pytest.raises(CoreError, match="twice"):
        engine.apply("p", 1, 2, make_rows(1), np.array([to_id(1)]))
    assert engine.version("p") == 1
    assert sorted(found(engine, texts=["topic1 topic2 topic3"])) == [1, 2]


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"ids": np.zeros((2, 15), np.uint8)}, id="short ids"),
        pytest.param({"ids": np.zeros((2, 16), np.uint8)}, id="equal ids"),
        pytest.param({"ids": np.zeros((2, 16), np.int8)}, id="dtype of ids"),
        pytest.param({"vectors": np.zeros((2, 2, DIM))}, id="float64"),
        pytest.param({"vectors": np.zeros((2, 1, DIM), np.float32)}, id="views"),
        pytest.param({"vectors": np.zeros((3, 2, DIM), np.float32)}, id="too many vectors"),
        pytest.param({"vectors": np.zeros((DIM, 2, 2), np.float32).T}, id="Fortran order"),
        pytest.param({"vectors": np.full((2, 2, DIM), np.inf, np.float32)}, id="infinite"),
        pytest.param({"texts": [["one", "two"]]}, id="too few texts"),
        pytest.param({"texts": [["one"], ["two"]]}, id="texts of one view"),
        pytest.param({"texts": [[1, 2], [3, 4]]}, id="texts that are numbers"),
        pytest.param({"tiers": np.array([1, 99], np.uint8)}, id="tier out of range"),
        pytest.param({"tiers": [1, 2]}, id="a list for an array"),
        pytest.param({"orders": np.array([1, 2], np.int64)}, id="dtype of orders"),
        pytest.param({"sessions": ["s"]}, id="too few sessions"),
        pytest.param({"sessions": "ss"}, id="a string for a list"),
        pytest.param({"heats": np.ones(2, np.float32)}, id="heats without times"),
        pytest.param({"heats": np.full(2, -1, np.float32), "heats_since": np.zeros(2, np.int64)}, id="negative heat"),
        pytest.param({"links": [b""]}, id="too few links"),
        pytest.param({"links": [b"", b"x" * 17]}, id="half an id"),
        pytest.param({"links": ["", ""]}, id="links that are strings"),
        pytest.param({"metadata": [{}, None]}, id="metadata is no dict"),
        pytest.param({"metadata": [{}, {"k": []}]}, id="metadata value is no scalar"),
        pytest.param({"metadata": [{}, {"k": 2**63}]}, id="integer too large"),
        pytest.param({"metadata": [{}, {"k": float("nan")}]}, id="nan"),
    ],
)
def test_malformed_rows_are_refused(engine: Engine, columns: dict[str, Any]) -> None:
    with pytest.raises(CoreError):
        engine.load("p", 1, make_rows(2, **columns))
    assert engine.version("p") is None


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"vectors": np.zeros((1, DIM + 1), np.float32)}, id="dim"),
        pytest.param({"vectors": np.zeros(DIM, np.float32)}, id="one dimension"),
        pytest.param({"vectors": np.full((1, DIM), np.nan, np.float32)}, id="nan"),
        pytest.param({"vectors": np.ones((1, DIM), np.float32), "vector_weights": []}, id="weights of vectors"),
        pytest.param({"vectors": np.ones((1, DIM), np.float32), "dense_weights": [1.0]}, id="weights of views"),
        pytest.param({"texts": ["x"], "text_weights": [-1.0]}, id="negative weight"),
        pytest.param({"texts": ["x"], "text_weights": [float("nan")]}, id="nan weight"),
        pytest.param({"texts": [b"x"]}, id="bytes"),
        pytest.param({"list_depth": 0}, id="depth"),
        pytest.param({"list_depth": -1}, id="negative depth"),
        pytest.param({"max_candidates": 0}, id="max candidates"),
        pytest.param({"rrf_k": -1.0}, id="rrf_k"),
        pytest.param({"boost": float("inf")}, id="boost"),
        pytest.param({"heat_weight": -1.0}, id="heat weight"),
        pytest.param({"link_weight": -1.0}, id="link weight"),
        pytest.param({"link_depth": -1}, id="link depth"),
        pytest.param({"duplicate_similarity": 1.1}, id="similarity"),
        pytest.param({"duplicate_similarity": float("nan")}, id="nan similarity"),
        pytest.param({"fusion": "max"}, id="fusion"),
        pytest.param({"filter": None}, id="no filter"),
        pytest.param({"filter": SearchFilter(tiers=[300])}, id="tier"),
        pytest.param({"filter": SearchFilter(metadata=Condition("k", Operator.LT, (True,)))}, id="ordered bool"),
        pytest.param({"filter": SearchFilter(metadata=Condition("k", Operator.EQ, (1, 2)))}, id="two values"),
        pytest.param({"filter": SearchFilter(metadata=Condition("k", Operator.CONTAINS, (1,)))}, id="contains 1"),
    ],
)
def test_malformed_plans_are_refused(engine: Engine, fields: dict[str, Any]) -> None:
    engine.load("p", 1, make_rows(2))
    with pytest.raises(CoreError):
        engine.search("p", make_plan(**fields))


@pytest.mark.parametrize("class_", [SearchPlan, SearchFilter])
def test_fields_left_out_have_the_documented_defaults(class_: Any) -> None:
    parameters = inspect.signature(class_).parameters.values()
    required = {
        "vectors": unit(1)[None],
        "texts": ["x"],
        **dict.fromkeys(["vector_weights", "text_weights", "dense_weights", "lexical_weights"], (1.0,)),
        **dict.fromkeys(["list_depth", "max_candidates", "now"], 1),
    }
    given = {p.name: required[p.name] for p in parameters if p.default is p.empty}
    defaults = {p.name: p.default for p in parameters if p.default not in (p.empty, ...)}
    assert class_(**given) == class_(**given, **defaults)
    assert defaults
    for name in given:
        with pytest.raises(TypeError, match=name):
            class_(**{key: value for key, value in given.items() if key != name})
    with pytest.raises(TypeError, match="colour"):
        class_(**given, colour=1)


def test_a_changed_plan_is_another_one() -> None:
    plan = make_plan(texts=["x"], filter=SearchFilter(occurred_from=3), list_depth=10)
    assert plan.replace() == plan
    assert plan.replace(texts=["x", "y"], text_weights=[1.0, 0.5]) != plan
    assert (plan.texts, plan.text_weights, plan.now) == (["x"], [1.0], 1000)
    assert plan.filter == SearchFilter(occurred_from=3)
    assert plan.filter.replace(occurred_to=9) == SearchFilter(occurred_from=3, occurred_to=9)
    # What is rescored follows the depth until it is said.
    assert plan.replace(list_depth=20) == make_plan(texts=["x"], filter=SearchFilter(occurred_from=3), list_depth=20)
    assert plan.replace(rescore=7, list_depth=20).replace(rescore=0) == plan.replace(list_depth=20)


def test_a_plan_takes_its_vectors_over(engine: Engine) -> None:
    engine.load("p", 1, make_rows(4))
    vectors = unit(0, 1)[None].copy()
    plan = make_plan(vectors=vectors)
    vectors[:] = unit(0, 0, 1)
    result = engine.search("p", plan)
    assert result is not None
    assert numbers(result.ids)[0] == 1


def test_arrays_of_a_result_are_made_once(engine: Engine) -> None:
    engine.load("p", 1, make_rows(4))
    result = engine.search("p", make_plan(vectors=unit(1)[None]))
    assert result is not None
    for name in ["ids", "scores", "ranks", "parts", "similarities", "duplicate_ids", "duplicate_of"]:
        assert getattr(result, name) is getattr(result, name)


def test_deeply_nested_filters_are_refused_not_fatal(engine: Engine) -> None:
    engine.load("p", 1, make_rows(2))
    expression: MetadataExpression = Condition("k", Operator.EQ, (1,))
    for _ in range(500):
        expression = Not(expression)
    with pytest.raises(CoreError, match="levels"):
        engine.search("p", make_plan(filter=SearchFilter(metadata=expression)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim"),
        ({"view_names": list("abcde")}, "views"),
        ({"language": "klingon"}, "klingon"),
        ({"stm_turns": 0}, "stm_turns"),
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    options = {"dim": DIM, "budget_bytes": 1, "stm_turns": 1, "stm_tokens": 1, **arguments}
    with pytest.raises(CoreError, match=message):
        Engine(**options)


METADATA = [{}, {"k": 1, "n": "blue whale"}, {"k": 2.5}, {"k": True}, {"k": "1"}]


def condition(operator: Operator, *values: Any, key: str = "k") -> Condition:
    return Condition(key, operator, values)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (condition(Operator.EQ, 1), [2]),
        (condition(Operator.EQ, 1.0), [2]),
        (condition(Operator.EQ, True), [4]),
        (condition(Operator.NE, 1), [3]),
        (condition(Operator.NE, "x"), [5]),
        (condition(Operator.GT, 1), [3]),
        (condition(Operator.LTE, 2.5), [2, 3]),
        (condition(Operator.GTE, "0"), [5]),
        (condition(Operator.IN, 2.5, "1", True), [3, 4, 5]),
        (condition(Operator.CONTAINS, "e wh", key="n"), [2]),
        (Not(condition(Operator.EQ, 1)), [1, 3, 4, 5]),
        (AllOf((condition(Operator.GT, 0), condition(Operator.LT, 2))), [2]),
        (AnyOf((condition(Operator.EQ, True), condition(Operator.EQ, "1"))), [4, 5]),
        (AllOf(()), [1, 2, 3, 4, 5]),
        (AnyOf(()), []),
    ],
)
def test_metadata_filters(engine: Engine, expression: MetadataExpression, expected: list[int]) -> None:
    engine.load("p", 1, make_rows(5, metadata=METADATA))
    got = found(engine, vectors=unit(1, 1)[None], filter=SearchFilter(metadata=expression))
    assert sorted(got) == expected


@pytest.mark.parametrize(
    ("columns", "filter_", "expected"),
    [
        ({"tiers": [1, 2, 3]}, SearchFilter(tiers=[Tier.MTM, Tier.LTM]), [2, 3]),
        ({"kinds": [1, 3, 1]}, SearchFilter(kinds=[Kind.FACT]), [2]),
        ({"sessions": ["a", "b", ""]}, SearchFilter(sessions=["", "b", "unknown"]), [2, 3]),
        ({"sessions": ["a", "b", ""]}, SearchFilter(sessions=["unknown"]), []),
        ({"agents": ["a", "b", ""]}, SearchFilter(agents=["a"]), [1]),
        ({"occurred_at": [10, 20, 30]}, SearchFilter(occurred_from=20, occurred_to=30), [2]),
        ({"is_archived": [True, False, True]}, SearchFilter(), [2]),
        ({"expires_at": [1000, 1001, NEVER]}, SearchFilter(), [2, 3]),
        ({"valid_to": [1000, 1001, NEVER]}, SearchFilter(), [2, 3]),
        ({"valid_from": [1000, 1001, ALWAYS]}, SearchFilter(), [1, 3]),
        ({"valid_to": [1000, 1001, NEVER]}, SearchFilter(as_of=999), [1, 2, 3]),
        ({"valid_to": [1000, 1001, NEVER], "expires_at": [5, NEVER, NEVER]}, SearchFilter(as_of=1), [2, 3]),
    ],
)
def test_filters(engine: Engine, columns: dict[str, Any], filter_: SearchFilter, expected: list[int]) -> None:
    template = make_rows(3)
    arrays: dict[str, Any] = {
        name: np.array(values, getattr(template, name).dtype)
        if isinstance(getattr(template, name), np.ndarray)
        else values
        for name, values in columns.items()
    }
    engine.load("p", 1, make_rows(3, **arrays))
    result = engine.search("p", make_plan(vectors=unit(1, 1)[None], texts=["topic1 topic2 topic3"], filter=filter_))
    assert result is not None
    assert sorted(numbers(result.ids)) == expected
    assert result.matched_count == len(expected)


def test_boost_lifts_rows_of_a_time(engine: Engine) -> None:
    engine.load("p", 1, make_rows(4))
    plain = found(engine, texts=["topic1 topic2 topic3"])
    boosted = engine.search("p", make_plan(texts=["topic1 topic2 topic3"], boost=9.0, boost_from=1, boost_to=2))
    assert boosted is not None
    assert plain[0] == 3
    assert numbers(boosted.ids)[0] == 1
    assert boosted.scores[0] > 9 / 61


def test_rings_keep_the_newest_turns(engine: Engine) -> None:
    engine.load("p", 1, make_rows(5, token_counts=np.array([1, 1, 5, 5, 1], np.uint32)))
    assert ring(engine, "s") == [4, 5]
    assert engine.apply("p", 1, 2, make_rows(1, first=6, token_counts=np.array([99], np.uint32)), NOTHING)
    assert ring(engine, "s") == [6]
    assert engine.apply("p", 2, 3, make_rows(0), np.array([to_id(6)]))
    assert ring(engine, "s") == [4, 5]
    assert ring(engine, "other") == []


def ring(engine: Engine, session: str) -> list[int]:
    ids = engine.session_ring("p", session)
    assert ids is not None
    return [int.from_bytes(id_, "big") for id_ in ids]


def test_the_least_recently_used_partition_is_evicted() -> None:
    sizing = Engine(dim=DIM, budget_bytes=1 << 30, stm_turns=3, stm_tokens=10)
    sizing.load("p", 1, make_rows(50))
    one = sizing.stats().size_bytes
    engine = Engine(dim=DIM, budget_bytes=one * 2 + one // 2, stm_turns=3, stm_tokens=10)
    for key in ["a", "b"]:
        engine.load(key, 1, make_rows(50))
    engine.search("a", make_plan(texts=["topic1"]))
    engine.load("c", 1, make_rows(50))
    assert [engine.version(key) for key in "abc"] == [1, None, 1]
    stats = engine.stats()
    assert (stats.partitions, stats.evictions, stats.loads, stats.searches, stats.rows) == (2, 1, 3, 1, 100)
    assert stats.size_bytes <= stats.budget_bytes


def test_a_partition_over_the_budget_stays_alone() -> None:
    engine = Engine(dim=DIM, budget_bytes=1, stm_turns=3, stm_tokens=10)
    engine.load("a", 1, make_rows(3))
    engine.load("b", 1, make_rows(3))
    assert (engine.version("a"), engine.version("b")) == (None, 1)


def test_searches_and_changes_run_side_by_side(engine: Engine) -> None:
    engine.load("p", 0, make_rows(8))

    def write() -> None:
        for version in range(60):
            assert engine.apply("p", version, version + 1, make_rows(8), NOTHING)

    def read() -> None:
        for _ in range(200):
            assert len(found(engine, vectors=unit(1, 1)[None], texts=["topic3"])) == 8

    with ThreadPoolExecutor(3) as pool:
        for work in [pool.submit(write), pool.submit(read), pool.submit(read)]:
            work.result()
    assert engine.version("p") == 60


def test_a_snapshot_restores_a_partition(engine: Engine) -> None:
    engine.load("p", 7, make_rows(5, metadata=METADATA))
    snapshot = engine.export("p")
    assert snapshot is not None
    assert engine.import_("q", snapshot) == 7
    plan = make_plan(vectors=unit(1, 0.5)[None], texts=["topic3 topic4"])
    original, restored = engine.search("p", plan), engine.search("q", plan)
    assert original is not None
    assert restored is not None
    assert numbers(original.ids) == numbers(restored.ids)
    assert original.similarities.tolist() == restored.similarities.tolist()
    assert engine.export("unknown") is None


@pytest.mark.parametrize("position", [0, 5, 9, 20, -1])
def test_a_damaged_snapshot_is_refused(engine: Engine, position: int) -> None:
    engine.load("p", 7, make_rows(5))
    snapshot = bytearray(engine.export("p") or b"")
    snapshot[position] ^= 1
    with pytest.raises(SnapshotError, match="snapshot"):
        engine.import_("q", bytes(snapshot))
    assert engine.version("q") is None


def test_cpu_features_end_with_the_reference() -> None:
    assert cpu_features()[-1] == "scalar"


def test_a_large_partition_is_searched_through_its_graphs_once_they_are_built() -> None:
    engine = Engine(dim=DIM, budget_bytes=1 << 26, stm_turns=3, stm_tokens=10, ann_rows=100)
    engine.load("p", 1, make_rows(300))
    plan = make_plan(vectors=unit(0, 1)[None])
    assert engine.ann_due("p")
    assert [is_exact(engine, plan), engine.build_ann("p", 64), is_exact(engine, plan)] == [True, True, True]
    while engine.build_ann("p", 64):
        pass
    assert not engine.ann_due("p")
    assert not is_exact(engine, plan)
    # All of axis 1, the newest ones among them; and a row that no graph holds yet.
    assert all(number % DIM == 1 for number in found(engine, vectors=unit(0, 1)[None]))
    assert engine.apply("p", 1, 2, make_rows(1, first=301), NOTHING)
    assert found(engine, vectors=unit(0, 1)[None])[0] == 301
    assert not engine.build_ann("unknown", 64)


def is_exact(engine: Engine, plan: SearchPlan) -> bool:
    result = engine.search("p", plan)
    assert result is not None
    return result.is_exact
