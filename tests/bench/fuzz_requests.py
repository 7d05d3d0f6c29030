"""Hypothesis strategies for requests of every RPC, made from the API's descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from tests.wire import METHODS

KeyKind: TypeAlias = Literal["operator", "agent", "bad", "none"]

DEEPEST = 12
"""Filters may nest 8 levels, each of which is up to 3 messages deep; what is left out below is what shrinks a request."""

PLACEHOLDER = b"{id}" + b"~" * 32
"""As long as the id that takes its place, so that lengths stay right."""

WORDS = ("", "ana", "bob", "*", PLACEHOLDER.decode(), "default", "Europe/Paris", "../../etc/passwd")
LONG = ("x" * 257, "ü" * 129, "x" * 40_000, "a\0b", "a\nb", "\u202e", "I live in Porto. " * 50, "what? " * 1000)
TEXTS = st.one_of(st.sampled_from(WORDS), st.text(max_size=40), st.sampled_from(LONG))

PLAUSIBLE: dict[str, tuple[Any, ...]] = {
    "user_id": ("ana", "ana", "bob"),
    "session_id": ("s", ""),
    "agent_id": ("", "a"),
    "memory_id": (PLACEHOLDER.decode(),),
    "id": (PLACEHOLDER.decode(),),
    "text": ("I live in Porto.", "My cat is called Nino.", "I don't live in Porto any more.", "Ich wohne in Köln."),
    "query": ("Where do I live?", "What is my cat called?", "last May"),
    "paths": ("metadata", "is_pinned", "expires_at"),
    "time_zone": ("", "Europe/Paris"),
    "tokenizer": ("", "builtin"),
    "page_token": ("",),
    "request_id": ("", "r1", "r2"),
    "seconds": (0, 1, 1_716_000_000),
    "nanos": (0, 500_000_000),
    "operator": tuple(range(1, 9)),
    "expected_version": (0, 1),
    "hypothetical_queries": (0,),
    "min_relevance": (0.0, 0.5),
}
"""What an honest caller sends, by the field's name: without it hardly a request would get past the first check."""

INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


ALWAYS = frozenset(
    {"scope", "user_id", "turns", "text", "query", "memory_id", "id", "memory", "update_mask", "paths", "key_id"}
)
"""Required fields, which are nearly always there."""


@dataclass(frozen=True)
class Request:
    """A call: its messages as bytes, in which PLACEHOLDER stands for the id of a memory that exists."""

    method: str
    key: KeyKind
    bodies: list[bytes]


@st.composite
def _value(draw: st.DrawFn, field: FieldDescriptor) -> Any:
    if field.name in PLAUSIBLE and draw(st.integers(0, 9)) < 8:
        return draw(st.sampled_from(PLAUSIBLE[field.name]))
    return draw(_scalar(field))


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return TEXTS
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.one_of(st.integers(1, 3), st.integers(-1, 12))
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return st.one_of(st.floats(width=32), st.sampled_from([0.0, 0.5, 1.0]))
    if field.type in INTEGERS:
        least, most = INTEGERS[field.type]
        return st.one_of(st.integers(max(least, -1), 12), st.integers(least, most), st.sampled_from([least, most]))
    return st.binary(max_size=40)


@st.composite
def _message(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    message: Message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        # Required fields are most often there: a request without one is refused at the first check.
        if depth > DEEPEST or draw(st.integers(0, 9)) < (1 if field.name in ALWAYS else 5):
            continue
        if field.is_repeated:
            _fill(draw, message, field, depth)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(_message(field.message_type, depth + 1)))
        else:
            setattr(message, field.name, draw(_value(field)))
    return message


def _fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    count = draw(st.sampled_from([0, 1, 1, 1, 1, 2, 3, 70, 130]))
    entries = getattr(message, field.name)
    entry = field.message_type
    if entry is None:
        entries.extend([draw(_value(field))] * count)
    elif entry.GetOptions().map_entry:
        value = entry.fields_by_name["value"]
        for number in range(min(count, 40)):
            key = draw(TEXTS)[:60] + str(number)
            if value.message_type is not None:
                entries[key].CopyFrom(draw(_message(value.message_type, depth + 1)))
            else:
                entries[key] = draw(_scalar(value))
    else:
        few = [draw(_message(entry, depth + 1)) for _ in range(min(count, 2))]
        entries.extend((few * count)[:count])


@st.composite
def _body(draw: st.DrawFn, descriptor: Descriptor) -> bytes:
    data = bytes(draw(_message(descriptor)).SerializeToString())
    how = draw(st.integers(0, 19))
    if how == 0:
        return draw(st.binary(max_size=60))
    if how == 1:
        at = draw(st.integers(0, len(data)))
        return data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 4)) :]
    return data


@st.composite
def requests_to(draw: st.DrawFn, methods: Sequence[str]) -> Request:
    """A request to one of these methods, by any key."""
    name = draw(st.sampled_from(methods))
    key: KeyKind = draw(st.sampled_from(["operator"] * 8 + ["agent", "agent", "bad", "none"]))
    count = draw(st.integers(0, 3)) if METHODS[name].client_streaming else 1
    return Request(name, key, [draw(_body(METHODS[name].input_type)) for _ in range(count)])


requests = requests_to(sorted(METHODS))
