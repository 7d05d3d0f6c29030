"""From a backup to a data folder that a server can start on. No server may be at work there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from lightmem_server.errors import PreconditionError
from lightmem_server.store.backup import Copying
from lightmem_server.store.backup_protocol import BackupProgress
from lightmem_server.store.connection import store_errors
from lightmem_server.store.sqlite import DATABASE_NAME, LOCK_NAME


def restore(source: Path, data_dir: Path, report: Callable[[BackupProgress], None]) -> BackupProgress:
    """Put a copy of a backup where a server looks for its database, once it is verified. An older schema is brought up to
    date by the next start. Blocks.

    Args:
        source: The backup; it is only read.
        data_dir: Made when it isn't there.
        report: Called as it goes on.

    Raises:
        PreconditionError: A server has the folder open (reason DATA_DIR_IN_USE), or a database is in it (DATABASE_EXISTS).
        StoreVersionError: The backup is newer than this program.
        StoreError: It is damaged, or not ours; the disk refused.
    """
    with store_errors(str(data_dir)):
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(data_dir / LOCK_NAME, timeout=0, mode=0o600)
        try:
            lock.acquire()
        except Timeout as error:
            message = f"{data_dir}: a LightMem server has this folder open; stop it first"
            raise PreconditionError(message, reason="DATA_DIR_IN_USE") from error
    try:
        # A log without its database as well: SQLite would play it into the restored one.
        for suffix in ("", "-wal", "-journal"):
            path = data_dir / (DATABASE_NAME + suffix)
            if path.exists():
                message = f"{path} is there already; move it away, or name another folder"
                raise PreconditionError(message, reason="DATABASE_EXISTS")
        copying = Copying(source, data_dir / DATABASE_NAME)
        restored = copying.run(lambda: report(copying.progress))
        assert restored is not None, "nobody cancels it"
        return restored
    finally:
        lock.release()
