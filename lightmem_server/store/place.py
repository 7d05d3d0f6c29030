"""Sees that the open database's files still have their names. A file that was moved or removed can be written to as before,
and SQLite doing so reports success; but nobody finds it again, so nothing of it may be acknowledged.

    lightmem.db        the same file, and no shorter than it was: it never shrinks
    lightmem.db-wal    the same file, and long enough for the frames that the index says are in it
    lightmem.db-shm    the same file: with another one, whoever opens the database next would not see this one's locks
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lightmem_server.errors import DamagedError, DiskError

LOG_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
"""Of a write-ahead log, and of a page in it (sqlite.org/fileformat2.html, section 4)."""

FRAME_COUNT_AT = 16
"""Where the index has the count of the log's valid frames: four bytes in the machine's order (sqlite.org/walformat.html)."""


class Place:
    """Where a database's files were when it was opened."""

    def __init__(self, path: Path, *, page_size: int) -> None:
        """
        Args:
            path: The database's; its log and index are beside it by now, for the first reading makes them.

        Raises:
            OSError: One of them isn't there.
        """
        # SQLite follows a link, and puts the other two beside what it leads to.
        path = path.resolve()
        self._database, self._log, index = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))
        self._frame_bytes = FRAME_HEADER_BYTES + page_size
        self._files = {file: _identity(file.stat()) for file in (self._database, self._log, index)}
        self._size_bytes = self._database.stat().st_size
        self._index = os.open(index, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Only after the connections: POSIX drops all of a process's locks on a file with the first descriptor that is
        closed."""
        os.close(self._index)

    def check(self) -> None:
        """Look at the files; some microseconds.

        Raises:
            DiskError: One was moved, removed or replaced.
            DamagedError: One was cut short.
        """
        sizes = [self._look(path, identity) for path, identity in self._files.items()]
        if sizes[0] < self._size_bytes:
            raise DamagedError(f"{self._database} was cut short while it was open; restore it from a backup")
        self._size_bytes = sizes[0]
        # Twice: another program may rightly empty the log in between.
        if self._is_short(sizes[1]) and self._is_short(self._log.stat().st_size):
            raise DamagedError(f"{self._log} was cut short while it was open; restore the database from a backup")

    def _is_short(self, log_bytes: int) -> bool:
        frames = int.from_bytes(os.pread(self._index, 4, FRAME_COUNT_AT), sys.byteorder)
        return frames > 0 and log_bytes < LOG_HEADER_BYTES + frames * self._frame_bytes

    @staticmethod
    def _look(path: Path, identity: tuple[int, int]) -> int:
        """A file's size in bytes."""
        try:
            found = path.stat()
        except OSError as error:
            raise DiskError(f"{path} was moved or removed while it was open ({error.strerror}); put it back") from error
        if _identity(found) != identity:
            raise DiskError(f"{path} was moved or removed while it was open, and another file is there; put it back")
        return found.st_size


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
