"""The MCP server through the official SDK's own client, over both transports, in front of a real server."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from lightmem_client import Client
from mcp import Client as McpClient
from mcp import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.server_process import ServerProcess

pytestmark = pytest.mark.models

README = Path(__file__).resolve().parents[2].joinpath("README.md").read_text("utf-8")
TOOLS = {"add_memory", "search_memories", "get_memory", "list_memories", "update_memory", "delete_memory"}


@pytest.fixture
def user() -> str:
    return f"mcp-{uuid.uuid4().hex[:8]}"


def stdio(server: ServerProcess, user_id: str, key: str | None = None) -> McpClient:
    environment = {**os.environ, "LIGHTMEM_TARGET": server.address, "LIGHTMEM_API_KEY": key or server.key}
    arguments = ["-m", "lightmem_server", "mcp", "--user", user_id]
    return McpClient(StdioServerParameters(command=sys.executable, args=arguments, env=environment))


@pytest.fixture(scope="module")
def address(server: ServerProcess) -> Iterator[str]:
    """An MCP server over HTTP, for whichever user a request names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lightmem_server", "mcp", "--transport", "http", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "--target", server.address], stderr=subprocess.PIPE, env={**os.environ, "LIGHTMEM_API_KEY": ""}
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                probe.settimeout(5)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            try:
                process.wait(0.1)
                raise AssertionError("the MCP server ended")
            except subprocess.TimeoutExpired:
                pass
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.communicate(timeout=20)


@asynccontextmanager
async def http(address: str, **headers: str) -> AsyncIterator[McpClient]:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as requests,
        McpClient(streamable_http_client(address, http_client=requests)) as client,
    ):
        yield client


async def call(client: McpClient, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refusal(client: McpClient, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(getattr(result.content[0], "text", ""))


async def use(client: McpClient) -> str:
    """All six tools. Returns the id of a memory that is still there."""
    assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
    first = await call(client, "add_memory", text="I moved to Lisbon in May.", speaker="Ana")
    second = await call(client, "add_memory", text="My dog Rex likes the beach.", speaker="Ana", is_pinned=True)
    found = await call(client, "search_memories", query="Where does Ana live?")
    assert found["memories"][0]["memory"]["id"] == first["id"]
    assert "Ana: I moved to Lisbon in May." in found["context"]
    assert (await call(client, "get_memory", memory_id=second["id"]))["is_pinned"]
    changed = await call(client, "update_memory", memory_id=second["id"], is_pinned=False, metadata={"topic": "dog"})
    assert (changed["is_pinned"], changed["metadata"]) == (False, {"topic": "dog"})
    listed = await call(client, "list_memories", limit=1)
    assert ([memory["id"] for memory in listed["memories"]], listed["is_complete"]) == ([second["id"]], False)
    await call(client, "delete_memory", memory_id=second["id"])
    listed = await call(client, "list_memories")
    assert ([memory["id"] for memory in listed["memories"]], listed["is_complete"]) == ([first["id"]], True)
    return str(first["id"])


async def test_all_tools_over_stdio_and_the_user_is_the_processs(server: ServerProcess, user: str) -> None:
    async with stdio(server, user) as client:
        memory_id = await use(client)
    with Client(server.address, api_key=server.key) as direct:
        assert direct.get(memory_id, user_id=user).text == "I moved to Lisbon in May."


async def test_all_tools_over_http_and_the_user_is_the_headers(server: ServerProcess, address: str, user: str) -> None:
    headers = {"authorization": f"Bearer {server.key}", "lightmem-user": user}
    async with http(address, **headers) as client:
        memory_id = await use(client)
    with Client(server.address, api_key=server.key) as direct:
        assert direct.get(memory_id, user_id=user).session_id == "mcp"


async def test_no_tool_takes_a_user_or_a_key(server: ServerProcess, user: str) -> None:
    async with stdio(server, user) as client:
        for tool in (await client.list_tools()).tools:
            names = " ".join(tool.input_schema["properties"])
            assert "user" not in names
            assert "key" not in names
        await client.call_tool("add_memory", {"text": "I am here.", "user_id": "somebody else"})
    with Client(server.address, api_key=server.key) as direct:
        assert list(direct.list(user_id="somebody else")) == []


async def test_a_key_is_held_to_its_user(server: ServerProcess, address: str, user: str) -> None:
    with Client(server.address, api_key=server.key) as admin:
        bound = admin.create_key(user_ids=[user]).secret
    async with http(address, authorization=f"Bearer {bound}", **{"lightmem-user": user}) as client:
        added = await call(client, "add_memory", text="I like plums.")
    other = {"authorization": f"Bearer {bound}", "lightmem-user": f"{user}-other"}
    async with http(address, **other) as client:
        assert "KEY_NOT_FOR_USER" in await refusal(client, "get_memory", memory_id=added["id"])
    async with http(address, authorization=f"Bearer {server.key}", **{"lightmem-user": f"{user}-other"}) as client:
        assert "plums" not in str(await call(client, "search_memories", query="What do I like?"))
        assert "NOT_FOUND" in await refusal(client, "get_memory", memory_id=added["id"])


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "authorization: Bearer"),
        ({"authorization": "Bearer lm_nobody_nothing", "lightmem-user": "u"}, "unknown, expired or revoked"),
        ({"authorization": "Bearer lm_nobody_nothing"}, "lightmem-user"),
    ],
)
async def test_without_a_key_or_a_user_nothing_is_done(address: str, headers: dict[str, str], says: str) -> None:
    async with http(address, **headers) as client:
        assert says in await refusal(client, "search_memories", query="What is there?")


async def test_bad_arguments_are_explained(server: ServerProcess, user: str) -> None:
    async with stdio(server, user) as client:
        assert "NOT_FOUND" in await refusal(client, "get_memory", memory_id=str(uuid.uuid4()))
        assert "at least one" in await refusal(client, "update_memory", memory_id=str(uuid.uuid4()))
        assert "limit" in await refusal(client, "search_memories", query="x", limit=1000)


async def test_null_and_nothing_in_quotes_are_left_out(server: ServerProcess, user: str) -> None:
    async with stdio(server, user) as client:
        added = await call(client, "add_memory", text="I like plums.", speaker=None, is_pinned=None)
        nothing: dict[str, Any] = {"limit": None, "max_tokens": None, "asked_at": ""}
        found = await call(client, "search_memories", query="What do I like?", **nothing)
        assert [each["memory"]["id"] for each in found["memories"]] == [added["id"]]
        assert (await call(client, "list_memories", limit=None))["is_complete"]
        changed = await call(
            client, "update_memory", memory_id=added["id"], is_pinned=True, expires_at="", metadata=None
        )
        assert changed["is_pinned"]
        assert "at least one" in await refusal(client, "update_memory", memory_id=added["id"], is_pinned=None)


@pytest.mark.parametrize("tool", ["add_memory", "get_memory", "list_memories", "search_memories"])
async def test_a_call_that_is_given_up_leaves_the_others_alone(server: ServerProcess, user: str, tool: str) -> None:
    arguments = {"text": "I like plums.", "memory_id": str(uuid.uuid4()), "query": "What do I like?"}
    async with stdio(server, user) as client:
        await call(client, "list_memories")  # connects
        for milliseconds in (1, 2, 4, 8, 16):
            with anyio.move_on_after(milliseconds / 1000):
                await client.call_tool(tool, arguments)
        assert (await call(client, "list_memories"))["is_complete"]


async def test_the_configuration_in_the_readme_starts_it(server: ServerProcess) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    made = json.loads(block)["mcpServers"]["lightmem"]
    assert made["command"] == "lightmem"
    environment = {**os.environ, "LIGHTMEM_TARGET": server.address, "LIGHTMEM_API_KEY": server.key}
    arguments = ["-m", "lightmem_server", *made["args"]]
    async with McpClient(StdioServerParameters(command=sys.executable, args=arguments, env=environment)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS


async def test_a_server_that_is_away_is_named(user: str) -> None:
    environment = {**os.environ, "LIGHTMEM_TARGET": "localhost:1", "LIGHTMEM_API_KEY": "lm_a_b"}
    arguments = ["-m", "lightmem_server", "mcp", "--user", user]
    away = StdioServerParameters(command=sys.executable, args=arguments, env=environment)
    async with McpClient(away) as client:
        assert "localhost:1" in await refusal(client, "list_memories")
