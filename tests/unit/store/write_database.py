"""Writes the database that `databases/` keeps of each schema: `python -m tests.unit.store.write_database > FILE`.

Run it when a migration is added, and never again for the same: the file shows what the program of that schema wrote. It uses
only what every version of the store has, so that it ran on the earlier commits too.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

import apsw
import apsw.shell
import numpy as np

from lightmem_server.store.protocol import Change, JobRecord, KeyRecord, VectorRecord
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Kind, Memory, Partition, Tier

ANN = Partition("default", "ann")
BEN = Partition("other", "ben ü")
TEXTS = ("I moved to Lisbon.", '„Straße 7", 北京 \U0001f600', "My sister Rita bakes bread.", "To be deleted.")
REQUEST_ID, REQUEST_DIGEST, REQUEST_RESULT = "r1", b"digest", b"result"
KEY = KeyRecord("key1", "default", b"\x01" * 32, label="first", user_ids=("ann",), is_admin=True, created_at=7)
MODEL = "bge-small-en-v1.5@int8"


def id_of(number: int) -> uuid.UUID:
    """The id of the turn of this number."""
    return uuid.UUID(int=0xA000 + number)


def vectors_of(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Its vectors."""
    return (np.arange(8, dtype=np.float32).reshape(2, 4) + number) / 7


def turn_of(number: int) -> Memory:
    """The turn of this number, as it was written first."""
    return Memory(
        id=id_of(number),
        tier=Tier.MTM,
        kind=Kind.TURN,
        text=TEXTS[number],
        occurred_at=1_700_000_000_000_000 + number,
        created_at=1_700_000_000_000_001,
        session_id="s",
        speaker="Ann",
        previous_id=id_of(number - 1) if number else None,
        metadata={"n": number, "word": "ü"},
    )


async def write(data_dir: Path) -> None:
    """Turns, a request, a job, an update, a deletion, an access and a key."""
    store = SqliteStore(data_dir, now=lambda: 1_700_000_000_000_002)
    await store.open()
    for number in range(len(TEXTS)):
        change = Change(
            ANN,
            puts=[turn_of(number)],
            vectors=[VectorRecord(id_of(number), MODEL, vectors_of(number))],
            jobs=[JobRecord("consolidate", "", "{}", not_before=5)] if number == 0 else [],
            request_id=REQUEST_ID if number == 0 else "",
            request_digest=REQUEST_DIGEST if number == 0 else b"",
            request_result=REQUEST_RESULT if number == 0 else b"",
        )
        await store.commit(change)
    await store.commit(Change(ANN, puts=[replace(turn_of(1), is_pinned=True, version=2)]))
    await store.commit(Change(ANN, deletes=[id_of(3)]))
    await store.commit(Change(BEN, puts=[replace(turn_of(0), id=id_of(9), text="Only Ben's.")]))
    await store.record_access(ANN, [id_of(0)], 11)
    await store.put_key(KEY)
    await store.close()


def dump(data_dir: Path) -> str:
    """The database as SQL, with the marks in its header."""
    connection = apsw.Connection(str(data_dir / "lightmem.db"))
    output = io.StringIO()
    apsw.shell.Shell(stdout=output, db=connection).process_command(".dump")
    return "".join(f"{line}\n" for line in output.getvalue().splitlines() if not line.startswith("--"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(write(Path(folder)))
        sys.stdout.write(dump(Path(folder)))
