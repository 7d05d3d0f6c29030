"""What the crash harness looks at in the files, beside what the server answers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import apsw

from lightmem_server.store import sqlite_read
from lightmem_server.store.backup import PARTIAL
from lightmem_server.store.connection import open_connection, to_reader
from lightmem_server.store.sqlite import DATABASE_NAME

RULES = {
    "records whose versions have gaps": """SELECT count(*) FROM memory m WHERE record_version - 1 !=
        (SELECT count(*) FROM history h WHERE h.partition_id = m.partition_id AND h.id = m.id)""",
    "turns without their vectors": """SELECT count(*) FROM memory m WHERE kind = 1 AND
        NOT EXISTS (SELECT 1 FROM vector v WHERE v.memory_no = m.memory_no)""",
    "records from versions that the partition never had": """SELECT count(*) FROM memory JOIN partition p
        USING (partition_id) WHERE order_no / 65536 > p.version OR changed_version > p.version""",
    "deletions whose record is there": """SELECT count(*) FROM tombstone JOIN memory USING (partition_id, id)""",
    "evidence that isn't there": """SELECT count(*) FROM memory m, json_each(m.body, '$.evidence_ids') e WHERE
        unhex(replace(e.value, '-', '')) NOT IN (SELECT id FROM memory o WHERE o.partition_id = m.partition_id)""",
}
"""What must count 0."""


def check_database(data_dir: Path) -> list[str]:
    """Whether the store is sound and nothing in it is half."""
    with closing(open_connection(data_dir / DATABASE_NAME, cache_bytes=1 << 20)) as connection:
        to_reader(connection)
        found = sqlite_read.check(connection)
        for name, sql in RULES.items():
            count = connection.execute(sql).get
            if count:
                found.append(f"{count} {name}")
    return found


def read_version(data_dir: Path, user_id: str) -> int:
    """A partition's version; 0 of one that isn't there."""
    with closing(open_connection(data_dir / DATABASE_NAME, cache_bytes=1 << 20)) as connection:
        to_reader(connection)
        row = connection.execute("SELECT version FROM partition WHERE user_id = ?", (user_id,)).fetchone()
        return int(row[0]) if row else 0


def find_text(data_dir: Path, texts: Iterable[str]) -> list[str]:
    """Files of the folder that hold one of these texts, which were erased."""
    wanted = [text.split()[0].encode() for text in texts]
    return [
        f"{path.name} holds words of an erased user"
        for path in data_dir.iterdir()
        if path.is_file() and any(word in path.read_bytes() for word in wanted)
    ]


def check_backup(path: Path, ids: Iterable[str]) -> list[str]:
    """Whether a backup is whole and holds these memories, or remembers their deletion."""
    if not path.is_file():
        return [f"the backup {path.name} was acknowledged and is not there"]
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        found = sqlite_read.check(connection)
        known = {row[0] for row in connection.execute("SELECT id FROM memory UNION SELECT id FROM tombstone")}
    missing = sum(uuid.UUID(memory_id).bytes not in known for memory_id in ids)
    return found + ([f"the backup {path.name} lacks {missing} memories"] if missing else [])


def find_partials(folder: Path) -> list[str]:
    """What unfinished backups left."""
    return [f"{path.name} was left of a backup" for path in folder.glob(f".*{PARTIAL}*")]
