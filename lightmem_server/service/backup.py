"""AdminService.Backup: the operator's copy of everything."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from lightmem_server.errors import InvalidInputError
from lightmem_server.pb import admin_service_pb2 as pb
from lightmem_server.service.auth import caller
from lightmem_server.service.backend import Backend
from lightmem_server.store.backup_protocol import BackupProgress

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


async def back_up(backend: Backend, request: pb.BackupRequest) -> AsyncIterator[pb.BackupResponse]:
    """Make a backup and tell how it goes; see the proto."""
    caller.get().require_operator()  # the copy holds every namespace
    name = request.name or _name_at(backend.clock.now())
    if not NAME.fullmatch(name):
        message = "has other characters than letters, digits, '.', '_' and '-', begins with '.', or is longer than 128"
        raise InvalidInputError("name", message, reason="INVALID_NAME")
    async with contextlib.aclosing(backend.store.backup(name)) as moments:
        async for moment in moments:
            yield _from_progress(moment)


def _name_at(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / 1e6, UTC):%Y%m%dT%H%M%S.%f}Z.db"


def _from_progress(moment: BackupProgress) -> pb.BackupResponse:
    return pb.BackupResponse(
        stage=moment.stage,
        done_pages=moment.done_pages,
        total_pages=moment.total_pages,
        path=moment.path,
        size_bytes=moment.size_bytes,
    )
