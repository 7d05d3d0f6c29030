"""Takes the last bytes of what was deleted out of SQLite's files. Runs in the writing thread, outside of transactions.

    secure_delete: the cell of a deleted row ─▶ zeros          (SQLite, as it deletes)
    the log: older images of its pages       ─▶ emptied        (a checkpoint with TRUNCATE, for which readers are waited)
    the gap of a page that was rebuilt       ─▶ zeros          (here)

    page   header | cell pointers ▶ |   gap   | ◀ cells
           8 or 12  2 bytes each      unused    from where the header says

The gap is where SQLite leaves copies behind: a page that is balanced with its neighbours is written anew from its end, and what
its gap now covers keeps the cells that stood there, of rows that may be deleted later. secure_delete doesn't reach them (tests
show it with SQLite 3.54.1). Nothing reads a gap, so it is overwritten in place, beside SQLite and also while others read; a
crash in the middle leaves a page that is as good as before. Refused: VACUUM, which copies the whole database through the log.

SQLite's own cache must not write a gap back: it is dropped before the next commit.
"""

from __future__ import annotations

import os

import apsw

from lightmem_server.store.connection import BUSY_TIMEOUT_MS

WAIT_MS = 100
"""How long one attempt waits for readers; commits wait as long."""

ROW_COUNT_AT = 3
CONTENT_AT = 5
INTERIOR = (2, 5)
LEAF = (10, 13)
FILE_HEADER_BYTES = 100
"""In front of the first page's own header."""


def wipe(connection: apsw.Connection, *, file: int, now: int) -> bool:
    """See `ErasureStore.wipe`. False: a reader is in the way; try again.

    Args:
        file: The database's, opened for reading and writing. It must not be closed before the connections are: that would drop
            their locks (POSIX drops all of a process's locks on a file with the first descriptor that is closed).

    Raises:
        apsw.Error, OSError: The disk refused.
    """
    connection.set_busy_timeout(WAIT_MS)
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.BusyError:
        return False
    finally:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    _clear_gaps(connection, file)
    connection.pragma("shrink_memory")
    connection.execute("UPDATE erasure SET wiped_at = ? WHERE wiped_at IS NULL", (now,))
    return True


def is_due(connection: apsw.Connection) -> bool:
    """Whether an erasure was begun whose bytes may still be there."""
    return connection.execute("SELECT 1 FROM erasure WHERE wiped_at IS NULL").fetchone() is not None


def _clear_gaps(connection: apsw.Connection, file: int) -> None:
    """Overwrite the gaps of all pages of all trees, as they are in the file."""
    page_size = int(connection.pragma("page_size"))
    # Which pages are of trees SQLite says: another page may look like one.
    pages = [int(row[0]) for row in connection.execute("SELECT pageno FROM dbstat WHERE pagetype <> 'overflow'")]
    for number in sorted(pages):
        start = (number - 1) * page_size
        begin, end = _find_gap(os.pread(file, page_size, start), is_first=number == 1)
        if end > begin:
            os.pwrite(file, bytes(end - begin), start + begin)
    os.fsync(file)


def _find_gap(page: bytes, *, is_first: bool) -> tuple[int, int]:
    """Where the gap of a tree's page begins and ends; (0, 0): there is nothing in it to overwrite."""
    header = FILE_HEADER_BYTES if is_first else 0
    kind = page[header] if len(page) > header else 0
    if kind not in (*INTERIOR, *LEAF):
        return 0, 0
    begin = header + (12 if kind in INTERIOR else 8) + 2 * _number(page, header + ROW_COUNT_AT)
    end = _number(page, header + CONTENT_AT) or 1 << 16
    if not begin <= end <= len(page) or not page[begin:end].strip(b"\0"):
        return 0, 0
    return begin, end


def _number(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 2])
