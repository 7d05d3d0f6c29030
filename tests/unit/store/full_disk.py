"""A process whose disk fills up and has room again: `python -m tests.unit.store.full_disk DIR`.

The disk is a limit on the size of files (RLIMIT_FSIZE), which the kernel enforces as it does a full disk. Exits 0 when the
store behaves.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from lightmem_server.errors import StoreError
from lightmem_server.store.protocol import Change
from lightmem_server.store.sqlite import DATABASE_NAME, SqliteStore
from tests.contract.store_records import USER, make_change, make_memory

GROUP = 8


def _limit_files(size_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


def _next_changes() -> list[Change]:
    return [make_change([make_memory("x" * 2000)]) for _ in range(GROUP)]


async def _main(data_dir: Path) -> None:
    store = SqliteStore(data_dir)
    await store.open()
    acknowledged = 0
    for change in _next_changes():
        acknowledged = (await store.commit(change)).version
    log_size = (data_dir / f"{DATABASE_NAME}-wal").stat().st_size
    _limit_files(log_size + 100_000)
    for _ in range(3):  # it goes on being full
        failures: list[BaseException] = []
        while not failures:
            for result in await asyncio.gather(*(store.commit(c) for c in _next_changes()), return_exceptions=True):
                if isinstance(result, BaseException):
                    assert isinstance(result, StoreError), result
                    failures.append(result)
                else:
                    acknowledged = max(acknowledged, result.version)
        changes = await store.changes_since(USER, None)
        assert changes.version == acknowledged == len(changes.rows), "a failed commit is invisible"
    _limit_files(resource.RLIM_INFINITY)
    results = await asyncio.gather(*(store.commit(change) for change in _next_changes()))
    assert [result.version for result in results] == list(range(acknowledged + 1, acknowledged + 1 + GROUP))
    assert await store.check() == []
    await store.close()
    store = SqliteStore(data_dir)
    await store.open()
    changes = await store.changes_since(USER, None)
    assert changes.version == acknowledged + GROUP == len(changes.rows)
    assert await store.check() == []
    await store.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
