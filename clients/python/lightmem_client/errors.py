"""Every error that the client raises on purpose.

    LightMemError
    ├── InvalidArgumentError      what was sent cannot be accepted; `field` names it
    ├── NotFoundError             no such record, or not this user's: deliberately the same
    ├── AlreadyExistsError        a request_id that came before with other content; don't retry
    ├── AbortedError              the record was changed meanwhile: read again, then retry
    ├── FailedPreconditionError   not in the state that the call needs
    ├── UnauthenticatedError      no key, or one that is unknown, expired or revoked
    ├── PermissionDeniedError     a good key, but not for this
    ├── OverloadedError           a limit is reached; `retry_after_seconds` says how long to wait
    ├── UnavailableError          no server there, starting, draining, or its disk failed
    ├── DeadlineExceededError     the timeout passed; whether the call took effect is not known
    ├── CancelledError            the call was cancelled, or its client closed
    ├── UnimplementedError        in the API, but not in this version of the server
    ├── WriteAbandonedError       an earlier request of the same writer failed; this one was not acknowledged
    └── InternalError             a defect of the server or of the client

`reason` is the stable name from google.rpc.ErrorInfo; `status` is the gRPC status. Errors that the client finds
before it sends anything carry the status that the server would have answered.
"""

from __future__ import annotations

import grpc


class LightMemError(Exception):
    """The root.

    Attributes:
        message: One sentence for a person.
        reason: Stable name of the cause, such as "KEY_INVALID"; empty when the server gave none.
        status: The canonical gRPC status.
        field: The path of the field at fault, such as "turns[0].text"; None when it isn't about one.
        retry_after_seconds: How long the server asks to wait; None when it didn't.
    """

    default_status = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        status: grpc.StatusCode | None = None,
        field: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.status = self.default_status if status is None else status
        self.field = field
        self.retry_after_seconds = retry_after_seconds


class InvalidArgumentError(LightMemError):
    """What was sent cannot be accepted; the same request never will be."""

    default_status = grpc.StatusCode.INVALID_ARGUMENT


class NotFoundError(LightMemError):
    """No such record for this user. Whether another user has it is never told."""

    default_status = grpc.StatusCode.NOT_FOUND


class AlreadyExistsError(LightMemError):
    """A request_id was used before with other content. Retrying is pointless."""

    default_status = grpc.StatusCode.ALREADY_EXISTS


class AbortedError(LightMemError):
    """The record is no longer at `expected_version`: read it again, then retry."""

    default_status = grpc.StatusCode.ABORTED


class FailedPreconditionError(LightMemError):
    """The server is not in the state that the call needs."""

    default_status = grpc.StatusCode.FAILED_PRECONDITION


class UnauthenticatedError(LightMemError):
    """No key, or one that is unknown, expired or revoked."""

    default_status = grpc.StatusCode.UNAUTHENTICATED


class PermissionDeniedError(LightMemError):
    """The key is good, but not for that user or not for administration."""

    default_status = grpc.StatusCode.PERMISSION_DENIED


class OverloadedError(LightMemError):
    """A limit is reached and nothing was done. Wait `retry_after_seconds`, if given, then retry."""

    default_status = grpc.StatusCode.RESOURCE_EXHAUSTED


class UnavailableError(LightMemError):
    """No server could be reached, or it is starting, draining, or its disk failed."""

    default_status = grpc.StatusCode.UNAVAILABLE


class DeadlineExceededError(LightMemError):
    """The timeout passed. Whether the call took effect is not known."""

    default_status = grpc.StatusCode.DEADLINE_EXCEEDED


class CancelledError(LightMemError):
    """The call was cancelled, or its client was closed."""

    default_status = grpc.StatusCode.CANCELLED


class UnimplementedError(LightMemError):
    """In the API, but not in this version of the server."""

    default_status = grpc.StatusCode.UNIMPLEMENTED


class WriteAbandonedError(LightMemError):
    """An earlier request of the same writer failed, so this one was not acknowledged.

    `__cause__` is the error of the earlier one. Sending it again with its `request_id` never stores it twice.
    """

    default_status = grpc.StatusCode.ABORTED


class InternalError(LightMemError):
    """A defect: the server failed in a way it did not expect, or answered what the protocol doesn't allow."""

    default_status = grpc.StatusCode.INTERNAL
