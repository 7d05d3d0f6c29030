"""What other systems export, in the shapes that they export it in."""

from __future__ import annotations

import codecs
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
    OF_OTHERS,
    OTHER_ROLE,
    READERS,
    TOO_LONG,
    WITH_NUL,
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


@pytest.mark.parametrize("current", ["n29999", None])
def test_a_long_conversation_is_read_whole(current: str | None) -> None:
    mapping = {f"n{i}": node(f"n{i - 1}", "user", f"m {i}") for i in range(30_000)}
    assert len(read_chatgpt(file([{"id": "c", "current_node": current, "mapping": mapping}])).found) == 30_000


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


def test_a_key_that_comes_twice_or_changed_is_another_request() -> None:
    report = read_mem0(file([{"id": "1", "memory": "a"}, {"memory": "b"}, {"id": "1", "memory": "c"}]))
    assert len({one.request_id for one in report.found}) == 3


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


def conversation(content: Any, **changes: Any) -> dict[str, Any]:
    message = {"author": {"role": "user"}, "create_time": MAY.timestamp(), "content": content}
    return {"id": "c", "current_node": "a", "mapping": {"a": {"parent": None, "message": message}}, **changes}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"content_type": "text", "parts": [None, 3, "a dog"]}, "a dog"),
        ({"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "my dog"]}, "my dog"),
        ({"parts": [{"content_type": "audio_transcription", "text": "my dog, said aloud"}]}, "my dog, said aloud"),
        ({"parts": "a dog"}, "a dog"),
        ("a dog", "a dog"),
        ({"parts": None}, None),
        ({"parts": 3}, None),
        ({"parts": {"a": "b"}}, None),
        ({"content_type": "code", "text": "print(1)"}, None),
        ([3], None),
        (None, None),
    ],
)
def test_chatgpts_messages_of_all_kinds(content: Any, text: str | None) -> None:
    report = read_chatgpt(file([conversation(content)]))
    assert [one.turn.text for one in report.found] == ([] if text is None else [text])
    assert report.skipped == ({NO_TEXT: 1} if text is None else {})


@pytest.mark.parametrize("current", [None, "gone", 3, {}])
def test_without_a_current_node_the_branch_that_was_written_last_counts(current: Any) -> None:
    mapping = {
        "a": node(None, "user", "Where is Rome?"),
        "old": node("a", "assistant", "In Spain.", at=MAY.timestamp() + 1),
        "new": node("a", "assistant", "In Italy.", at=MAY.timestamp() + 2),
    }
    report = read_chatgpt(file([{"id": "c", "current_node": current, "mapping": mapping}]))
    assert [one.turn.text for one in report.found] == ["Where is Rome?", "In Italy."]


def test_one_conversation_alone_is_read_too() -> None:
    assert len(read_chatgpt(file(CONVERSATION)).found) == 2


def test_metadata_that_no_memory_can_have_is_counted_and_the_rest_stays() -> None:
    odd = {
        "k" * 80: 1,
        "": 2,
        "long": "x" * 3000,
        "big": 2**70,
        "none": None,
        "half": "\ud83d",
        "nul": "\0",
        "list": [1],
    }
    data = json.dumps([{"memory": "x", "metadata": {**odd, "nan": float("nan"), "topic": "home"}}]).encode()
    report = read_mem0(file(data))
    assert report.found[0].turn.metadata == {"topic": "home", "source": "mem0"}
    assert report.metadata_left_out == len(odd) + 1
    many = read_mem0(file([{"memory": "x", "metadata": {f"k{n}": "v" * 1000 for n in range(40)}}]))
    assert len(many.found[0].turn.metadata) == 7  # six of a kilobyte, and the source
    assert read_mem0(file([{"memory": "x", "metadata": [1]}])).metadata_left_out == 1


def test_names_that_the_server_refuses_become_ones_that_it_takes() -> None:
    first, second = (read_chatgpt(file([conversation("x", id=f"{'c' * 400}{n}")])).found[0].session_id for n in (1, 2))
    assert first != second
    assert len(first.encode()) <= 256
    (named,) = read_chatgpt(file([conversation("x", id="a\nb\ud83d")])).found
    assert named.session_id.startswith("chatgpt-ab-")


def test_the_first_text_there_is_counts() -> None:
    report = read_mem0(file([{"memory": None, "text": "Likes plums"}, {"memory": 7}, {"memory": "nul \0"}]))
    assert [one.turn.text for one in report.found] == ["Likes plums"]
    assert report.skipped == {NO_TEXT: 1, WITH_NUL: 1}


def test_users_of_a_mem0_file_are_told_apart() -> None:
    items = [{"memory": "a", "user_id": "ana"}, {"memory": "b", "user_id": "bob"}, {"memory": "c"}]
    assert read_mem0(file(items)).users == {"ana": 1, "bob": 1}
    report = read_mem0(file(items), only="bob")
    assert ([one.turn.text for one in report.found], report.skipped) == (["b"], {OF_OTHERS: 2})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("kind", ["jsonl", "langgraph"])
def test_files_as_editors_on_windows_leave_them(kind: str, encoding: str) -> None:
    key = "text" if kind == "jsonl" else "value"
    text = f'{{"{key}": "Sch\u00f6n\u2028hier"}}\r\n{{"{key}": "two"}}\r\n'
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    report = READERS[kind](file(mark + text.encode(encoding)))
    assert [one.turn.text for one in report.found] == ["Sch\u00f6n\u2028hier", "two"]


def test_lines_keep_their_agent_and_odd_ones_are_counted() -> None:
    lines = [{"text": "a", "agent_id": "bot", "speaker": "Ann"}, {"text": "b\0"}, {"text": "x" * 40_000}, {"text": " "}]
    report = read_turns(file("\n".join(map(json.dumps, lines)).encode()))
    assert [(one.agent_id, one.turn.speaker) for one in report.found] == [("bot", "Ann")]
    assert report.skipped == {WITH_NUL: 1, TOO_LONG: 1, NO_TEXT: 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("results", "memory", "metadata", "user_id", "created_at", "value", "namespace"),
                    *(
                        "mapping",
                        "current_node",
                        "parent",
                        "message",
                        "author",
                        "role",
                        "content",
                        "parts",
                        "create_time",
                    ),
                ]
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
