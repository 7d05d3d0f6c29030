"""Every error that LightMem raises on purpose.

    LightMemError
    ├── InvalidInputError        what the caller sent; names the field
    ├── NotFoundError            no such record, or not yours: deliberately the same
    ├── RequestReusedError       a request_id that came before with other content
    ├── MemoryDiffersError       an imported memory is there with other content
    ├── VersionMismatchError     expected_version is not the current one
    ├── UserErasedError          the user was erased after the work began
    ├── UnauthenticatedError     no key, an unknown, expired or revoked one
    ├── ForbiddenError           a key without the right
    ├── OverloadedError          a limit is reached; says when to retry
    │   └── BudgetSpentError     a namespace's model time for this hour is used up
    ├── PreconditionError        the server, or what is stored, is not in the state that was asked for
    │   └── RunEndedError        a consolidation run was cancelled, or is another worker's now
    ├── UnavailableError         starting, draining
    │   └── StoreError           the store could not do it
    │       ├── DiskError            the disk refused: full, read-only, gone
    │       │   └── DamagedError     what is on it is not what was written
    │       └── StoreVersionError    the database is newer than this program, or its SQLite too old
    ├── CoreError                the Rust core refused its input: a defect of ours
    │   └── SnapshotError        a partition's snapshot is damaged or foreign: the store still has everything
    ├── ModelError               a model is missing, damaged, or was changed
    │   ├── ModelNotFoundError   not pulled yet
    │   ├── ModelChecksumError   the bytes are not those in the manifest
    │   └── ModelDownloadError   no network, no space, refused
    └── ConfigError              a setting that is unknown or out of range

`reason` is stable and goes over the wire as google.rpc.ErrorInfo.reason; service/interceptors.py maps each class to
its status, once.
"""

from __future__ import annotations


class LightMemError(Exception):
    """The root: an error with a stable reason and a sentence for a person."""

    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class InvalidInputError(LightMemError):
    """What the caller sent cannot be accepted; the same request will never be."""

    reason = "INVALID_FIELD"

    def __init__(self, field: str, message: str, *, reason: str | None = None) -> None:
        super().__init__(f"{field}: {message}", reason=reason)
        self.field = field
        self.description = message


class NotFoundError(LightMemError):
    """No such record for this user. Whether another user has it is never told."""

    reason = "NOT_FOUND"


class RequestReusedError(LightMemError):
    """A request_id was used before for another content."""

    reason = "REQUEST_ID_REUSED"


class MemoryDiffersError(LightMemError):
    """A memory to import is there under the same id, and says something else, or is there in an earlier version."""

    reason = "MEMORY_DIFFERS"


class VersionMismatchError(LightMemError):
    """The record was changed since the caller read it."""

    reason = "VERSION_MISMATCH"


class UserErasedError(LightMemError):
    """The user was erased after the call began, or after the request that it repeats was stored: nothing was stored now."""

    reason = "USER_ERASED"


class UnauthenticatedError(LightMemError):
    """No key, or one that is unknown, expired or revoked."""

    reason = "KEY_INVALID"


class ForbiddenError(LightMemError):
    """The key is good but not for this."""

    reason = "KEY_NOT_ALLOWED"


class OverloadedError(LightMemError):
    """A limit is reached; nothing was done."""

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_seconds: float, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class BudgetSpentError(OverloadedError):
    """Background work has used up the model time of its namespace."""

    reason = "BUDGET_SPENT"


class PreconditionError(LightMemError):
    """The server isn't set up for what was asked, or what is stored isn't in the state for it; the same request will not be
    accepted before that changes."""

    reason = "FAILED_PRECONDITION"


class RunEndedError(PreconditionError):
    """A consolidation run was cancelled, or another worker has taken it over: whoever is at work on it stops."""

    reason = "RUN_ENDED"


class UnavailableError(LightMemError):
    """The server is starting or draining."""

    reason = "UNAVAILABLE"


class StoreError(UnavailableError):
    """The store could not do it. Nothing was acknowledged."""

    reason = "STORE_FAILED"


class DiskError(StoreError):
    """The disk is full, read-only or gone, or another program locks the database: until that changes nothing is durable."""


class DamagedError(DiskError):
    """What is on the disk is not what was written to it."""


class StoreVersionError(StoreError):
    """The database was written by a newer program, or the SQLite library is too old to be safe."""

    reason = "STORE_VERSION"


class CoreError(LightMemError):
    """The Rust core refused its input. Input is checked before, so this is a defect of ours."""

    reason = "INTERNAL"


class SnapshotError(CoreError):
    """A snapshot of a partition is damaged, or another program's, model's or language's. It is rebuilt from the store."""


class ModelError(LightMemError):
    """A model cannot be used."""

    reason = "MODEL_FAILED"


class ModelNotFoundError(ModelError):
    """The model has not been pulled; the message says how to."""

    reason = "MODEL_NOT_FOUND"


class ModelChecksumError(ModelError):
    """A file's sha256 is not the manifest's."""

    reason = "MODEL_CHECKSUM"


class ModelDownloadError(ModelError):
    """The model could not be fetched or stored."""

    reason = "MODEL_DOWNLOAD"


class ConfigError(LightMemError):
    """A setting is unknown, of the wrong type, or out of range."""

    reason = "CONFIG_INVALID"
