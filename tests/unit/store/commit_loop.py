"""A process that commits until it is killed: `python -m tests.unit.store.commit_loop DIR`.

After each acknowledged commit it prints the user and the partition's version. Deletions and updates are among them.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

from lightmem_server.store.protocol import Change
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Partition
from tests.contract.store_records import make_change, make_memory

USERS = ("a", "b", "c", "d", "e", "f", "g", "h")
RECORDS_PER_COMMIT = 3


def ids_of(user_id: str, version: int) -> list[uuid.UUID]:
    """Ids of the records that the commit to this version puts."""
    return [uuid.uuid5(uuid.NAMESPACE_OID, f"{user_id} {version} {i}") for i in range(RECORDS_PER_COMMIT)]


def is_deletion(version: int) -> bool:
    """Whether the commit to this version deletes what the one before it put."""
    return version % 5 == 0


def next_change(user_id: str, version: int) -> Change:
    """The commit that leads to a version."""
    partition = Partition("default", user_id)
    if is_deletion(version):
        return Change(partition, deletes=ids_of(user_id, version - 1))
    records = [make_memory(f"{version} " + "x" * 500, id=id_) for id_ in ids_of(user_id, version)]
    return make_change(records, partition=partition, request_id=str(version), request_result=str(version).encode())


async def _commit_for_ever(store: SqliteStore, user_id: str) -> None:
    version = (await store.changes_since(Partition("default", user_id), None)).version
    while True:
        version = (await store.commit(next_change(user_id, version + 1))).version
        print(user_id, version, flush=True)


async def _main(data_dir: Path) -> None:
    store = SqliteStore(data_dir)
    await store.open()
    await asyncio.gather(*(_commit_for_ever(store, user_id) for user_id in USERS))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
