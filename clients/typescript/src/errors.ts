/**
 * Every error that the client throws on purpose. `reason` is the stable name from google.rpc.ErrorInfo; `status` is the gRPC
 * status. Errors that the client finds before it sends anything carry the status that the server would have answered.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type ServiceError, status } from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";

/** What an error is made of. */
export interface ErrorDetails {
  reason?: string | undefined;
  /** The path of the field at fault, such as "turns[0].text". */
  field?: string | undefined;
  /** How long the server asks to wait. */
  retryAfterSeconds?: number | undefined;
  cause?: unknown;
}

/** The root of all. */
export class LightMemError extends Error {
  /** The canonical gRPC status. */
  readonly status: status = status.UNKNOWN;
  /** Stable name of the cause, such as "KEY_INVALID"; empty when the server gave none. */
  readonly reason: string;
  readonly field: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.name = new.target.name;
    this.reason = details.reason ?? "";
    this.field = details.field;
    this.retryAfterSeconds = details.retryAfterSeconds;
  }
}

/** What was sent cannot be accepted; `field` names it. */
export class InvalidArgumentError extends LightMemError {
  override readonly status = status.INVALID_ARGUMENT;
}
/** No such record, or not this user's: deliberately the same. */
export class NotFoundError extends LightMemError {
  override readonly status = status.NOT_FOUND;
}
/** A request id that came before with other content; don't retry. */
export class AlreadyExistsError extends LightMemError {
  override readonly status = status.ALREADY_EXISTS;
}
/** The record was changed meanwhile: read again, then retry. */
export class AbortedError extends LightMemError {
  override readonly status = status.ABORTED;
}
/** Not in the state that the call needs. */
export class FailedPreconditionError extends LightMemError {
  override readonly status = status.FAILED_PRECONDITION;
}
/** No key, or one that is unknown, expired or revoked. */
export class UnauthenticatedError extends LightMemError {
  override readonly status = status.UNAUTHENTICATED;
}
/** A good key, but not for this. */
export class PermissionDeniedError extends LightMemError {
  override readonly status = status.PERMISSION_DENIED;
}
/** A limit is reached; `retryAfterSeconds` says how long to wait. */
export class OverloadedError extends LightMemError {
  override readonly status = status.RESOURCE_EXHAUSTED;
}
/** No server there, starting, draining, or its disk failed. */
export class UnavailableError extends LightMemError {
  override readonly status = status.UNAVAILABLE;
}
/** The timeout passed; whether the call took effect is not known. */
export class DeadlineExceededError extends LightMemError {
  override readonly status = status.DEADLINE_EXCEEDED;
}
/** The call was cancelled, or its client closed. */
export class CancelledError extends LightMemError {
  override readonly status = status.CANCELLED;
}
/** In the API, but not in this version of the server. */
export class UnimplementedError extends LightMemError {
  override readonly status = status.UNIMPLEMENTED;
}
/** An earlier request of the same writer failed; this one was not acknowledged. `cause` is that error. */
export class WriteAbandonedError extends LightMemError {
  override readonly status = status.ABORTED;
}
/** A defect of the server or of the client. */
export class InternalError extends LightMemError {
  override readonly status = status.INTERNAL;
}

const CLASS_OF_STATUS = new Map<status, new (message: string, details?: ErrorDetails) => LightMemError>([
  [status.INVALID_ARGUMENT, InvalidArgumentError],
  [status.NOT_FOUND, NotFoundError],
  [status.ALREADY_EXISTS, AlreadyExistsError],
  [status.ABORTED, AbortedError],
  [status.FAILED_PRECONDITION, FailedPreconditionError],
  [status.UNAUTHENTICATED, UnauthenticatedError],
  [status.PERMISSION_DENIED, PermissionDeniedError],
  [status.RESOURCE_EXHAUSTED, OverloadedError],
  [status.UNAVAILABLE, UnavailableError],
  [status.DEADLINE_EXCEEDED, DeadlineExceededError],
  [status.CANCELLED, CancelledError],
  [status.UNIMPLEMENTED, UnimplementedError],
]);

/** The typed error of a failed call; `cause` is what cancelled it, if something did. */
export function toError(error: unknown, cause?: unknown): LightMemError {
  if (error instanceof LightMemError) return error;
  if (!isServiceError(error)) return new InternalError(String(error), { cause: error });
  const details: ErrorDetails = { ...readDetails(error), cause: cause ?? error };
  let message = error.details;
  if (!details.reason && error.code === status.UNAVAILABLE) {
    details.reason = "UNREACHABLE"; // gRPC's own, which speaks of sockets
    message = `no server could be reached: ${message}`;
  }
  if (!details.reason && error.code === status.DEADLINE_EXCEEDED) {
    details.reason = "DEADLINE_EXCEEDED";
    message = "no answer within the timeout; whether the call took effect is not known";
  }
  if (!details.reason && error.code === status.CANCELLED) details.reason = "CANCELLED";
  return new (CLASS_OF_STATUS.get(error.code) ?? InternalError)(message, details);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

/** What google.rpc details say; those that don't parse are left out. */
function readDetails(error: ServiceError): ErrorDetails {
  const read: ErrorDetails = {};
  const [data] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!(data instanceof Buffer)) return read;
  try {
    for (const packed of fromBinary(StatusSchema, data).details) {
      const info = anyUnpack(packed, ErrorInfoSchema);
      const badRequest = anyUnpack(packed, BadRequestSchema);
      const retry = anyUnpack(packed, RetryInfoSchema);
      if (info) read.reason = info.reason;
      if (badRequest) read.field = badRequest.fieldViolations[0]?.field;
      if (retry) read.retryAfterSeconds = Number(retry.retryDelay?.seconds ?? 0n) + (retry.retryDelay?.nanos ?? 0) / 1e9;
    }
  } catch {
    return read;
  }
  return read;
}

/** Whether the same call may succeed later: no server there, or one that says when to come back. */
export function isTransient(error: LightMemError): boolean {
  if (error instanceof OverloadedError) return error.retryAfterSeconds !== undefined; // without: too large, which stays so
  return error instanceof UnavailableError;
}
