"""Reflection that finds methods too.

Clients such as ghz ask for the file of a method by its full name, which the reflection protocol allows; a descriptor
pool finds messages, enums and services by name, but not methods.
"""

from __future__ import annotations

from typing import Any

import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection


class MethodPool:
    """The default descriptor pool, which also finds the file of a method."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  # protobuf's name
        """The file of a message, enum, service or method. Raises KeyError for what isn't there."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file


def enable(service_names: tuple[str, ...], server: grpc.aio.Server) -> None:
    """Let clients ask a server for its API: these services, and reflection itself."""
    names = (*service_names, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=MethodPool())
