"""What the server needs of its system of record for backups. A part of `Store`; its errors hold here too."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class BackupStage(StrEnum):
    """How far a backup is."""

    COPY = "copy"
    VERIFY = "verify"
    """Everything is copied; the copy is checked."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """One moment of a backup.

    Attributes:
        done_pages, total_pages: Pages copied, and in all; 0 before they are known.
        path, size_bytes: Of the file, once it is DONE.
    """

    stage: BackupStage = BackupStage.COPY
    done_pages: int = 0
    total_pages: int = 0
    path: str = ""
    size_bytes: int = 0


class BackupStore(Protocol):
    """The part of a store that makes copies of it."""

    def backup(self, name: str) -> AsyncGenerator[BackupProgress, None]:
        """Write a copy of everything to a file of this name, beside the store, which goes on meanwhile; yields until it is
        DONE: complete, verified and on disk. The copy shows one moment after the call. Leaving early, or a failure, leaves
        nothing; nor does the end of the process, once the store is open again. One is made at a time.

        Raises:
            PreconditionError: The name is taken (reason BACKUP_EXISTS); another backup is being made (BACKUP_AT_WORK).
            StoreError: The disk refused, or the copy is not what was copied.
        """
