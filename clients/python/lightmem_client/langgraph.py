"""LangGraph's `BaseStore` on a LightMem server: extra `langgraph`.

    store = LightMemStore(Client(user_id="ann"))
    graph = builder.compile(store=store)

An item is a memory: its text is what is searched, its value lies beside it as JSON.

    BaseStore       LightMem
    namespace       metadata, a label each; the label at `user_label`, if that is set, is the user id
    key             metadata; namespace and key make the session, so that no item is read as another's context
    value           metadata, in pieces; the text itself where that is too small
    search, query   Retrieve, within the namespace; items that it did not return follow without a score

Items are pinned, so that they stay however many there are. They are the user's memories like any others: other clients find
them, and the server may abstract facts from them. `langgraph-checkpoint` is the package that defines `BaseStore`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    validate_op_namespace,
)
from langgraph.store.base.embed import get_text_at_path

from lightmem_client._client import Client
from lightmem_client._filters import Expression, MemoryFilter, Meta
from lightmem_client._types import Memory, Scalar, Turn
from lightmem_client.errors import InvalidArgumentError, NotFoundError

Namespace: TypeAlias = tuple[str, ...]

NAMESPACE, LABEL, KEY, VALUE = "store.namespace", "store.label.", "store.key", "store.value."
CREATED_AT, IS_SEARCHED = "store.created_at", "store.is_searched"
"""Keys of the metadata; LABEL and VALUE are followed by a number."""

PIECE_BYTES = 1000
MOST_PIECES = 6
"""What of a value goes into metadata, of which the server takes 8 KiB in texts of 1 KiB. A longer one becomes the text."""

MOST_LABELS = 12
"""The server takes 32 keys of metadata."""

MOST_FOUND = 100
MOST_TOKENS = 32_768
"""What one Retrieve may return."""

OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


class LightMemStore(BaseStore):
    """A BaseStore over a Client, which stays the caller's to close.

    Its calls raise LightMemError, and ValueError for a namespace that LangGraph refuses. A value has at most 32 KiB of JSON.
    Replacing an item writes the new one, then deletes the old: what is read meanwhile is the new one.
    """

    def __init__(self, client: Client, *, user_label: int | None = None) -> None:
        """
        Args:
            user_label: Which label of a namespace is the user id, counted from 0: 1 for ("memories", user_id). None: all
                namespaces are the client's user's.
        """
        self._client = client
        self._user_label = user_label

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """See BaseStore. Reads see what was there before the batch; of several puts to one key the last one counts."""
        asked = list(ops)
        for op in asked:
            validate_op_namespace(op)
        results: list[Result] = []
        puts: dict[tuple[Namespace, str], PutOp] = {}
        for op in asked:
            match op:
                case GetOp():
                    results.append(self._get(op.namespace, op.key))
                case SearchOp():
                    results.append(self._search(op))
                case ListNamespacesOp():
                    results.append(self._list_namespaces(op))
                case PutOp():
                    puts[op.namespace, op.key] = op
                    results.append(None)
                case _:
                    raise ValueError(f"unknown operation {type(op).__name__}")
        for put in puts.values():
            self._put(put)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """See batch; off the event loop."""
        return await asyncio.to_thread(self.batch, list(ops))

    def _get(self, namespace: Namespace, key: str) -> Item | None:
        return next((_to_item(memory) for memory in self._find(namespace, key)), None)

    def _find(self, namespace: Namespace, key: str) -> Iterator[Memory]:
        """What is stored under a key, the newest first: more than one only where a replacement was broken off."""
        found = self._client.list(
            user_id=self._user(namespace), filter=MemoryFilter(session_ids=[_session(namespace, key)])
        )
        return (memory for memory in found if _is_item(memory, namespace) and memory.metadata[KEY] == key)

    def _put(self, op: PutOp) -> None:
        user_id = self._user(op.namespace)
        before = list(self._find(op.namespace, op.key))
        if op.value is not None:
            created_at = before[0].metadata[CREATED_AT] if before else datetime.now(UTC).isoformat()
            turn = _to_turn(op, op.value, created_at)
            self._client.write(turn, user_id=user_id, session_id=_session(op.namespace, op.key))
        for memory in before:
            try:
                self._client.delete(memory.id, user_id=user_id)
            except NotFoundError:
                continue  # somebody else replaced it at the same time

    def _search(self, op: SearchOp) -> list[SearchItem]:
        matching = (item for item in self._items(op) if _matches(item.value, op.filter))
        return list(itertools.islice(matching, op.offset, op.offset + op.limit))

    def _items(self, op: SearchOp) -> Iterator[SearchItem]:
        """All under a prefix, those that answer the query first, then the newest; each once."""
        user_id, prefix = self._user(op.namespace_prefix), op.namespace_prefix
        seen: set[tuple[Namespace, str]] = set()
        for memory, score in itertools.chain(self._hits(op, user_id), self._all(prefix, user_id)):
            if _is_item(memory, prefix):
                item = _to_item(memory)
                if (item.namespace, item.key) not in seen:
                    seen.add((item.namespace, item.key))
                    yield SearchItem(item.namespace, item.key, item.value, item.created_at, item.updated_at, score)

    def _hits(self, op: SearchOp, user_id: str | None) -> Iterator[tuple[Memory, float | None]]:
        if not op.query or not op.query.strip():
            return
        wanted = MOST_FOUND if op.filter else min(MOST_FOUND, op.offset + op.limit)
        found = self._client.retrieve(
            op.query,
            user_id=user_id,
            max_memories=wanted,
            max_candidates=max(wanted, 32),
            max_tokens=MOST_TOKENS,
            exclude_context=True,
            exclude_shared=True,
            exclude_trace=True,
            filter=_under(op.namespace_prefix) & (Meta(IS_SEARCHED) == True),  # noqa: E712  # an expression
        )
        for hit in found.memories:
            yield hit.memory, hit.score if hit.relevance is None else hit.relevance

    def _all(self, prefix: Namespace, user_id: str | None) -> Iterator[tuple[Memory, None]]:
        return ((memory, None) for memory in self._client.list(user_id=user_id, filter=_under(prefix)))

    def _list_namespaces(self, op: ListNamespacesOp) -> list[Namespace]:
        conditions = op.match_conditions or ()
        prefix = next((tuple(c.path) for c in conditions if c.match_type == "prefix"), ())
        known: Namespace = tuple(itertools.takewhile(lambda label: label != "*", prefix))
        found = {_namespace(memory) for memory, _ in self._all(known, self._user(known)) if _is_item(memory, known)}
        matching = {namespace for namespace in found if all(_fits(namespace, c) for c in conditions)}
        if op.max_depth is not None:
            matching = {namespace[: op.max_depth] for namespace in matching}
        return sorted(matching)[op.offset : op.offset + op.limit]

    def _user(self, namespace: Namespace) -> str | None:
        """Whose memories; None: the client's user's."""
        if self._user_label is None:
            return None
        if len(namespace) <= self._user_label:
            raise InvalidArgumentError(
                f"namespace {namespace} has no label {self._user_label}, which names the user",
                reason="REQUIRED",
                field="namespace",
            )
        return namespace[self._user_label]


def _session(namespace: Namespace, key: str) -> str:
    return hashlib.sha256(json.dumps([*namespace, key]).encode()).hexdigest()[:32]


def _under(prefix: Namespace) -> Expression:
    """Metadata of the items whose namespaces begin so."""
    conditions = [Meta(f"{LABEL}{number}") == label for number, label in enumerate(prefix)]
    return functools.reduce(Expression.__and__, conditions, _ANY_ITEM)


_ANY_ITEM: Expression = Meta(NAMESPACE) != ""


def _is_item(memory: Memory, prefix: Namespace) -> bool:
    return KEY in memory.metadata and _namespace(memory)[: len(prefix)] == prefix


def _namespace(memory: Memory) -> Namespace:
    return tuple(json.loads(str(memory.metadata[NAMESPACE])))


def _to_turn(op: PutOp, value: Mapping[str, Any], created_at: Scalar) -> Turn:
    if len(op.namespace) > MOST_LABELS:
        raise InvalidArgumentError(
            f"a namespace has at most {MOST_LABELS} labels", reason="TOO_MANY", field="namespace"
        )
    whole = json.dumps(value)  # ASCII, so that pieces end anywhere
    pieces = [whole[at : at + PIECE_BYTES] for at in range(0, len(whole), PIECE_BYTES)]
    is_text = len(pieces) > MOST_PIECES
    metadata: dict[str, Scalar] = {NAMESPACE: json.dumps(op.namespace), KEY: op.key, CREATED_AT: created_at}
    metadata |= {f"{LABEL}{number}": label for number, label in enumerate(op.namespace)}
    metadata |= {} if is_text else {f"{VALUE}{number}": piece for number, piece in enumerate(pieces)}
    text = whole if is_text else _text(value, op.index)
    return Turn(
        text if text.strip() else op.key, metadata={**metadata, IS_SEARCHED: op.index is not False}, is_pinned=True
    )


def _text(value: Mapping[str, Any], index: list[str] | bool | None) -> str:
    """What is searched: the fields named, else all; one alone without its name."""
    if isinstance(index, list):
        return "\n".join(text for path in index for text in get_text_at_path(value, path))
    told = {name: field for name, field in value.items() if field not in (None, "", [], {})}
    shown = {name: field if isinstance(field, str) else json.dumps(field) for name, field in told.items()}
    return next(iter(shown.values())) if len(shown) == 1 else "\n".join(f"{n}: {text}" for n, text in shown.items())


def _to_item(memory: Memory) -> Item:
    metadata = memory.metadata
    pieces = [str(metadata[f"{VALUE}{i}"]) for i in range(MOST_PIECES) if f"{VALUE}{i}" in metadata]
    created_at = datetime.fromisoformat(str(metadata[CREATED_AT]))
    return Item(
        value=json.loads("".join(pieces) or memory.text),
        key=str(metadata[KEY]),
        namespace=_namespace(memory),
        created_at=created_at,
        updated_at=memory.created_at or created_at,
    )


def _matches(value: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    return all(_compares(value.get(name), condition) for name, condition in (wanted or {}).items())


def _compares(value: Any, condition: Any) -> bool:
    """Whether a field is what a filter asks: equal, or as its operators say; of nested fields, those that are named. What can't
    be compared doesn't match."""
    if not isinstance(condition, dict):
        return bool(value == condition)
    if not any(str(name).startswith("$") for name in condition):
        return isinstance(value, dict) and all(_compares(value.get(name), part) for name, part in condition.items())
    return all(_holds(name, value, other) for name, other in condition.items())


def _holds(name: str, value: Any, other: Any) -> bool:
    if name not in OPERATORS:
        raise ValueError(f"unknown operator {name}")
    try:
        return OPERATORS[name](value, other)
    except TypeError:
        return False


def _fits(namespace: Namespace, condition: MatchCondition) -> bool:
    path = tuple(condition.path)
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for wanted, label in zip(path, part, strict=True))
