from __future__ import annotations

import grpc
import pytest
from clients.python.tests.peer import KEY, Failure, Peer

from lightmem_client import AsyncClient, Client, Role, Turn, UnavailableError
from lightmem_client.chat import PREFACE, AsyncChat, Chat, to_messages


def test_memories_go_in_and_turns_are_written(client: Client, peer: Peer) -> None:
    client.write(Turn("ann lives in Rome", speaker="Ann"), session_id="sunday")
    chat = Chat(client, session_id="monday", speaker="Ann")
    first = chat.ask("where is Rome")
    assert first[0] == {"role": "system", "content": f"{PREFACE}\n\nAnn: ann lives in Rome"}
    assert first[1:] == [{"role": "user", "content": "where is Rome"}]
    chat.answer("In Italy.")
    assert peer.texts("ann") == ["ann lives in Rome", "where is Rome", "In Italy."]
    assert [(memory.role, memory.speaker) for memory in list(client.list())[1::-1]] == [
        (Role.USER, "Ann"),
        (Role.ASSISTANT, ""),
    ]


def test_a_conversation_goes_on_where_it_was(client: Client) -> None:
    Chat(client, session_id="monday").ask("hello")
    Chat(client, session_id="monday").answer("hi there")
    messages = Chat(client, session_id="monday").ask("what next")
    assert messages == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi there"},
        {"role": "user", "content": "what next"},
    ]


def test_what_failed_is_not_written(client: Client, peer: Peer) -> None:
    peer.fail("Retrieve", *[Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING")] * 10)
    with pytest.raises(UnavailableError):
        Chat(client, session_id="monday").ask("hello")
    assert peer.texts("ann") == []


def test_another_user_and_another_preface(client: Client, peer: Peer) -> None:
    client.write("bob likes plums", user_id="bob", session_id="x")
    chat = Chat(client, session_id="monday", user_id="bob", preface="Memories:")
    assert chat.ask("who likes plums")[0]["content"].startswith("Memories:\n\n")
    assert peer.texts("bob")[-1] == "who likes plums"
    assert peer.texts("ann") == []


async def test_the_same_asynchronously(peer: Peer) -> None:
    async with AsyncClient(peer.target, api_key=KEY, user_id="ann") as client:
        chat = AsyncChat(client, session_id="monday")
        await chat.ask("hello")
        await chat.answer("hi")
        assert [message["content"] for message in await chat.ask("more")] == ["hello", "hi", "more"]


def test_without_memories_there_is_no_preface() -> None:
    assert to_messages("", [], "hello") == [{"role": "user", "content": "hello"}]
