"""What other systems export, in the shapes that they export it in."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightmem_client import Role

from lightmem_server.cli.foreign import (
    NO_TEXT,
    NOT_UNICODE,
    OTHER_ROLE,
    READERS,
    TOO_LONG,
    ForeignError,
    read_chatgpt,
    read_langgraph,
    read_mem0,
    read_turns,
)

MAY = datetime(2024, 5, 8, 9, tzinfo=UTC)


def file(value: Any) -> io.BytesIO:
    return io.BytesIO(value if isinstance(value, bytes) else json.dumps(value).encode())


def node(parent: str | None, role: str, *parts: Any, at: float | None = MAY.timestamp(), **more: Any) -> dict[str, Any]:
    content = {"content_type": "text", "parts": list(parts)}
    return {"parent": parent, "message": {"author": {"role": role}, "create_time": at, "content": content, **more}}


CONVERSATION = {
    "conversation_id": "c1",
    "title": "A move",
    "create_time": MAY.timestamp(),
    "current_node": "d",
    "mapping": {
        "root": {"parent": None, "message": None},
        "a": node("root", "system", "You are helpful."),
        "b": node("a", "user", "I moved to Lisbon."),
        "old": node("b", "assistant", "An answer that was made anew."),
        "c": node("b", "assistant", "How is it?", {"content_type": "image"}),
        "d": node("c", "user", "", at=None),
    },
}


@pytest.mark.parametrize(
    "wrap", [lambda items: items, lambda items: {"results": items}, lambda items: {"memories": items}]
)
def test_mem0(wrap: Any) -> None:
    items = [
        {"id": "m1", "memory": "Lives in Lisbon", "created_at": "2024-05-08T09:00:00Z", "metadata": {"topic": "home"}},
        {"id": "m2", "memory": "  "},
        {"id": "m3", "data": "Likes plums", "metadata": {"list": [1], "n": 3}},
    ]
    report = read_mem0(file(wrap(items)))
    first, second = report.found
    assert (first.turn.text, first.turn.occurred_at, first.session_id) == ("Lives in Lisbon", MAY, "mem0")
    assert first.turn.metadata == {"topic": "home", "source": "mem0"}
    assert (second.turn.text, second.turn.metadata) == ("Likes plums", {"n": 3, "source": "mem0"})
    assert report.skipped == {NO_TEXT: 1}


def test_chatgpt_is_the_branch_that_was_shown() -> None:
    report = read_chatgpt(file([CONVERSATION]))
    assert [(one.turn.text, one.turn.role) for one in report.found] == [
        ("I moved to Lisbon.", Role.USER),
        ("How is it?", Role.ASSISTANT),
    ]
    assert {one.session_id for one in report.found} == {"chatgpt-c1"}
    assert report.found[0].turn.occurred_at == MAY
    assert report.skipped == {OTHER_ROLE: 1, NO_TEXT: 1}


def test_a_circle_in_a_conversation_ends() -> None:
    circle = {"a": node("b", "user", "x"), "b": node("a", "user", "y")}
    assert len(read_chatgpt(file([{"current_node": "a", "mapping": circle}])).found) == 2


def test_langgraph_as_json_and_as_lines() -> None:
    items = [
        {
            "namespace": ["ana", "facts"],
            "key": "1",
            "value": {"text": "Likes tea"},
            "created_at": "2024-05-08T09:00:00+00:00",
        },
        {"namespace": ["ana", "facts"], "key": "2", "value": {"likes": "plums"}},
    ]
    report = read_langgraph(file(items))
    assert [one.turn.text for one in report.found] == ["Likes tea", '{"likes": "plums"}']
    assert report.found[0].turn.metadata == {"source": "langgraph", "namespace": "ana/facts", "key": "1"}
    lines = "\n".join(map(json.dumps, items)).encode()
    assert read_langgraph(file(lines)).found == report.found


def test_turns_line_by_line() -> None:
    report = read_turns(
        file(b'{"text": "I moved.", "session_id": "monday"}\n\n{"text": "Where?", "role": "assistant"}\n')
    )
    assert [(one.turn.text, one.session_id, one.turn.role) for one in report.found] == [
        ("I moved.", "monday", Role.USER),
        ("Where?", "", Role.ASSISTANT),
    ]


def test_what_is_longer_than_a_turn_is_counted() -> None:
    report = read_mem0(file([{"id": "a", "memory": "x" * 32_769}, {"id": "b", "memory": "x" * 32_768}]))
    assert (len(report.found), report.skipped) == (1, {TOO_LONG: 1})


def test_half_a_character_is_counted_and_names_still_make_requests() -> None:
    report = read_mem0(file([{"id": "a", "memory": "half \ud83d"}, {"id": "\ud83d", "memory": "whole"}]))
    assert report.skipped == {NOT_UNICODE: 1}
    assert report.found[0].request_id.startswith("import-")


def test_the_same_file_gives_the_same_requests_and_others_give_others() -> None:
    once, again = read_chatgpt(file([CONVERSATION])), read_chatgpt(file([CONVERSATION]))
    assert [one.request_id for one in once.found] == [one.request_id for one in again.found]
    assert len({one.request_id for one in once.found}) == len(once.found)


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        ("mem0", b"{", "is not JSON"),
        ("mem0", b'{"results": 3}', "results is not a list"),
        ("mem0", b"[3]", "item 0 holds what is not an object"),
        ("mem0", b'[{"memory": "x", "created_at": "soon"}]', "item 0 has no time"),
        ("chatgpt", b"{}", "the file is not a list"),
        ("chatgpt", b'[{"mapping": [1]}]', "conversation 0 holds what is not an object"),
        ("mem0", b"[" * 200_000, "is nested too deeply"),
        ("langgraph", b"\xff\xfe\x00", "neither JSON nor"),
        ("langgraph", b"{\n{", "neither JSON nor a line of JSON each"),
    ],
)
def test_what_is_no_such_file_is_refused_with_its_place(kind: str, data: bytes, says: str) -> None:
    with pytest.raises(ForeignError, match=says):
        READERS[kind](file(data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["results", "memory", "mapping", "current_node", "message", "author", "content", "value", "created_at"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(value=JSON, kind=st.sampled_from(["mem0", "chatgpt", "langgraph"]))
def test_any_json_is_read_or_refused(value: Any, kind: str) -> None:
    try:
        READERS[kind](file(value))
    except ForeignError as error:
        assert str(error)  # noqa: PT017
