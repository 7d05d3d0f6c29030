"""One suite, two stores: LangGraph's own in memory, which says what is expected, and ours over a server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence

import pytest
from langgraph.store.base import BaseStore, GetOp, InvalidNamespaceError, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore
from lightmem_client import Client, InvalidArgumentError, Turn
from lightmem_client.langgraph import LightMemStore

from lightmem_server.slm.fakes import HashEmbedder
from tests.live_server import LiveServer

FACTS = ("ann", "facts")


def _embed(texts: Sequence[str]) -> list[list[float]]:
    vectors: list[list[float]] = asyncio.run(HashEmbedder().embed_passages(texts)).tolist()
    return vectors


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("langgraph")) as live:
        yield live


@pytest.fixture
def client(live: LiveServer) -> Iterator[Client]:
    with Client(live.address, api_key=live.key, user_id=str(uuid.uuid4())) as client:
        yield client


@pytest.fixture(params=["in memory", "lightmem"])
def store(request: pytest.FixtureRequest) -> BaseStore:
    if request.param == "in memory":
        return InMemoryStore(index={"dims": 384, "embed": _embed})
    return LightMemStore(request.getfixturevalue("client"))


def test_what_is_put_is_got(store: BaseStore) -> None:
    value = {"text": "Ann likes tea.", "rating": 5, "tags": ["a", "b"], "deep": {"ü": None, "x": 1.5}}
    store.put(FACTS, "tea", value)
    item = store.get(FACTS, "tea")
    assert item is not None
    assert (item.namespace, item.key, item.value) == (FACTS, "tea", value)
    assert item.created_at <= item.updated_at
    assert store.get(FACTS, "coffee") is None
    assert store.get(("ann",), "tea") is None
    assert store.get((*FACTS, "more"), "tea") is None


@pytest.mark.parametrize(
    "value",
    [{}, {"text": ""}, {"n": 0}, {"text": "long " * 4000}, {"é": "日本" * 1500}],
    ids=["empty", "no text", "a number", "long", "long and not ASCII"],
)
def test_values_come_back_whatever_their_size(store: BaseStore, value: dict[str, object]) -> None:
    store.put(FACTS, "one", value)
    item = store.get(FACTS, "one")
    assert item is not None
    assert item.value == value


def test_a_batch_reads_first_and_of_two_puts_the_last_counts(store: BaseStore) -> None:
    store.put(FACTS, "a", {"n": 1})
    ops = [PutOp(FACTS, "a", {"n": 2}), GetOp(FACTS, "a"), PutOp(FACTS, "a", {"n": 3}), SearchOp(FACTS)]
    nothing, item, _, found = store.batch(ops)
    assert nothing is None
    assert getattr(item, "value", None) == {"n": 1}
    assert isinstance(found, list)
    assert len(found) == 1
    after = store.get(FACTS, "a")
    assert after is not None
    assert after.value == {"n": 3}


def test_search_without_a_query_finds_all_under_a_prefix(store: BaseStore) -> None:
    for namespace, key in ((FACTS, "a"), ((*FACTS, "food"), "b"), (("ann", "plans"), "c"), (("bob", "facts"), "d")):
        store.put(namespace, key, {"text": key})
    assert {item.key for item in store.search(FACTS)} == {"a", "b"}
    assert {item.key for item in store.search(("ann",))} == {"a", "b", "c"}
    assert {item.key for item in store.search(())} == {"a", "b", "c", "d"}
    assert store.search(("an",)) == []


def test_search_pages(store: BaseStore) -> None:
    for number in range(25):
        store.put(FACTS, str(number), {"n": number})
    pages = [[item.key for item in store.search(FACTS, limit=10, offset=offset)] for offset in (0, 10, 20, 30)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert {key for page in pages for key in page} == {str(number) for number in range(25)}


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ({"city": "Rome"}, {"a"}),
        ({"n": {"$gt": 1}}, {"b", "c"}),
        ({"n": {"$gte": 1, "$lt": 3}}, {"a", "b"}),
        ({"n": {"$lte": 1}}, {"a"}),
        ({"city": {"$ne": "Rome"}}, {"b", "c"}),
        ({"n": {"$eq": 2}, "city": "Oslo"}, {"b"}),
        ({"deep": {"x": 1}}, {"c"}),
        ({"tags": ["x", "y"]}, {"c"}),
        ({"missing": 1}, set()),
    ],
    ids=str,
)
@pytest.mark.parametrize("query", [None, "Which city?"])
def test_search_filters(store: BaseStore, wanted: dict[str, object], keys: set[str], query: str | None) -> None:
    store.put(FACTS, "a", {"city": "Rome", "n": 1})
    store.put(FACTS, "b", {"city": "Oslo", "n": 2})
    store.put(FACTS, "c", {"city": "Lima", "n": 3, "deep": {"x": 1, "y": 2}, "tags": ["x", "y"]})
    assert {item.key for item in store.search(FACTS, filter=wanted, query=query)} == keys


def test_search_with_a_query_begins_with_what_answers_it(store: BaseStore) -> None:
    store.put(FACTS, "home", {"text": "Ann moved to Lisbon in spring."})
    store.put(FACTS, "food", {"text": "Ann likes pizza with olives."})
    store.put(("bob", "facts"), "food", {"text": "Bob likes pizza with ham."})
    found = store.search(FACTS, query="pizza with olives")
    assert [item.key for item in found] == ["food", "home"]
    assert found[0].score is not None
    assert [item.key for item in store.search(FACTS, query="moved to Lisbon", limit=1)] == ["home"]


def test_only_indexed_fields_are_searched(store: BaseStore) -> None:
    store.put(FACTS, "shown", {"title": "pizza", "secret": "olives"}, index=["title"])
    store.put(FACTS, "hidden", {"title": "olives"}, index=False)
    store.put(FACTS, "named", {"title": "olives", "list": [{"x": "ham"}]}, index=["title", "list[*].x"])
    first, *_ = store.search(FACTS, query="olives")
    assert first.key == "named"
    hidden = store.get(FACTS, "hidden")
    assert hidden is not None
    assert hidden.value == {"title": "olives"}


def test_namespaces_are_listed(store: BaseStore) -> None:
    names = [("a", "b", "c"), ("a", "b", "d"), ("a", "e"), ("f", "b", "c"), ("f",)]
    for namespace in names:
        store.put(namespace, "k", {"n": 1})
    assert store.list_namespaces() == sorted(names)
    assert store.list_namespaces(prefix=("a",)) == [("a", "b", "c"), ("a", "b", "d"), ("a", "e")]
    assert store.list_namespaces(suffix=("b", "c")) == [("a", "b", "c"), ("f", "b", "c")]
    assert store.list_namespaces(prefix=("*", "b")) == [("a", "b", "c"), ("a", "b", "d"), ("f", "b", "c")]
    assert store.list_namespaces(prefix=("a", "*", "d")) == [("a", "b", "d")]
    assert store.list_namespaces(max_depth=1) == [("a",), ("f",)]
    assert store.list_namespaces(max_depth=2) == [("a", "b"), ("a", "e"), ("f",), ("f", "b")]
    assert store.list_namespaces(limit=2, offset=1) == sorted(names)[1:3]


@pytest.mark.parametrize("namespace", [(), ("a.b",), ("",), ("langgraph", "x")], ids=str)
def test_namespaces_that_langgraph_refuses_are_refused(store: BaseStore, namespace: tuple[str, ...]) -> None:
    with pytest.raises(InvalidNamespaceError):
        store.put(namespace, "k", {"n": 1})


async def test_the_same_calls_are_there_for_asyncio(store: BaseStore) -> None:
    await store.aput(FACTS, "home", {"text": "Ann moved to Lisbon."})
    item = await store.aget(FACTS, "home")
    assert item is not None
    assert item.value == {"text": "Ann moved to Lisbon."}
    assert [item.key for item in await store.asearch(FACTS, query="Lisbon")] == ["home"]
    assert await store.alist_namespaces() == [FACTS]
    await store.adelete(FACTS, "home")
    assert await store.aget(FACTS, "home") is None


# What follows the store in memory does not do; that over PostgreSQL does the first three.


def test_a_put_replaces_the_whole_value_and_keeps_when_it_was_made(client: Client) -> None:
    store = LightMemStore(client)
    store.put(FACTS, "home", {"city": "Rome", "since": 2020})
    before = store.get(FACTS, "home")
    store.put(FACTS, "home", {"city": "Lisbon"})
    after = store.get(FACTS, "home")
    assert before is not None
    assert after is not None
    assert after.value == {"city": "Lisbon"}
    assert after.created_at == before.created_at
    assert after.updated_at > before.updated_at
    assert [item.value for item in store.search(FACTS)] == [{"city": "Lisbon"}]


def test_what_is_deleted_is_gone_and_deleting_again_does_nothing(client: Client) -> None:
    store = LightMemStore(client)
    store.put(FACTS, "home", {"city": "Rome"})
    store.delete(FACTS, "home")
    store.delete(FACTS, "home")
    assert store.get(FACTS, "home") is None
    assert store.search(FACTS) == []
    assert store.list_namespaces() == []


def test_labels_are_checked_in_a_batch_too(client: Client) -> None:
    store = LightMemStore(client)
    with pytest.raises(InvalidNamespaceError):
        store.batch([PutOp(("a.b",), "k", {"n": 1})])


def test_a_ttl_is_refused(client: Client) -> None:
    with pytest.raises(NotImplementedError):
        LightMemStore(client).put(FACTS, "k", {"n": 1}, ttl=5)


def test_a_label_can_name_the_user(client: Client) -> None:
    store = LightMemStore(client, user_label=1)
    store.put(("memories", "ann"), "home", {"text": "Lisbon"})
    store.put(("memories", "bob"), "home", {"text": "Oslo"})
    assert [memory.text for memory in client.list(user_id="ann")] == ["Lisbon"]
    assert [item.value for item in store.search(("memories", "bob"), query="home")] == [{"text": "Oslo"}]
    assert store.list_namespaces(prefix=("memories", "ann")) == [("memories", "ann")]
    with pytest.raises(InvalidArgumentError, match="names the user"):
        store.search(("memories",))


def test_what_was_said_to_the_agent_is_no_item(client: Client) -> None:
    client.write("Ann likes pizza with olives.")
    store = LightMemStore(client)
    store.put(FACTS, "tea", {"text": "Ann likes tea."})
    assert [item.key for item in store.search((), query="pizza with olives")] == ["tea"]


def test_of_a_replacement_that_was_broken_off_the_newer_one_counts(client: Client) -> None:
    store = LightMemStore(client)
    store.put(FACTS, "home", {"text": "Rome"})
    (old,) = client.list()
    store.put(FACTS, "home", {"text": "Lisbon"})
    again = Turn(old.text, metadata=old.metadata)  # as if the older one had not been deleted, nor what came next
    client.write(again, session_id=old.session_id)
    store.put(FACTS, "home", {"text": "Oslo"})
    assert [item.value for item in store.search(FACTS)] == [{"text": "Oslo"}]


def test_more_labels_than_can_be_kept_are_refused(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="labels"):
        LightMemStore(client).put(tuple("abcdefghijklmnop"), "k", {"n": 1})


def test_items_are_found_in_a_user_with_more_of_them_than_a_page(client: Client) -> None:
    store = LightMemStore(client)
    for number in range(120):
        store.put(FACTS, str(number), {"n": number})
    assert len(store.search(FACTS, limit=200)) == 120
    assert [item.key for item in store.search(FACTS, filter={"n": 3}, query="anything")] == ["3"]
