"""For whom a tool acts: always by the connection, never by a tool's argument, which a model writes.

stdio ─▶ the user and the key that the process was started with
HTTP  ─▶ the key in the request's `authorization` header, as the LightMem server checks it with every call; the user that the
         process was started with, else the one in the request's header USER_HEADER, whom the key has to be for
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lightmem_client import AsyncClient
from mcp.server.mcpserver.exceptions import ToolError

USER_HEADER = "lightmem-user"
MAX_CLIENTS = 64
"""Open connections to the LightMem server, one for each key that called lately."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A client, and whom it is to act for."""

    client: AsyncClient
    user_id: str


class Connections(Protocol):
    """Finds what a tool call is bound to."""

    def bind(self, headers: Mapping[str, str] | None) -> contextlib.AbstractAsyncContextManager[Bound]:
        """The client and user of a call; `headers` are the HTTP request's, None on stdio.

        Raises:
            ToolError: The request names no key, or no user.
        """

    async def close(self) -> None:
        """End the connections."""


class OneConnection:
    """All calls are one user's: stdio."""

    def __init__(self, client: AsyncClient, user_id: str) -> None:
        self._bound = Bound(client, user_id)

    @contextlib.asynccontextmanager
    async def bind(self, headers: Mapping[str, str] | None) -> AsyncIterator[Bound]:
        """See Connections."""
        yield self._bound

    async def close(self) -> None:
        """See Connections."""
        await self._bound.client.close()


class KeyedConnections:
    """Each call is its key's: HTTP."""

    def __init__(self, connect: Callable[[str], AsyncClient], user_id: str) -> None:
        """
        Args:
            connect: A client with a key.
            user_id: Of all calls; "": of whom each request's header names.
        """
        self._connect = connect
        self._user_id = user_id
        self._clients: OrderedDict[str, AsyncClient] = OrderedDict()
        self._at_work: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def bind(self, headers: Mapping[str, str] | None) -> AsyncIterator[Bound]:
        """See Connections."""
        scheme, _, key = (headers or {}).get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise ToolError("send the LightMem key as the header 'authorization: Bearer lm_...'")
        user_id = self._user_id or (headers or {}).get(USER_HEADER, "")
        if not user_id:
            raise ToolError(f"name the user in the header '{USER_HEADER}'")
        client = self._clients.setdefault(key, self._clients.get(key) or self._connect(key))
        self._clients.move_to_end(key)
        self._at_work[key] = self._at_work.get(key, 0) + 1
        try:
            await self._close_idle()
            yield Bound(client, user_id)
        finally:
            self._at_work[key] -= 1
            if not self._at_work[key]:
                del self._at_work[key]

    async def close(self) -> None:
        """See Connections."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.close()

    async def _close_idle(self) -> None:
        """Close what was used longest ago, beyond MAX_CLIENTS; calls at work go on."""
        idle = [key for key in self._clients if key not in self._at_work]
        for key in idle[: max(0, len(self._clients) - MAX_CLIENTS)]:
            await self._clients.pop(key).close()
