/** TypeScript client of LightMem, the self-hosted memory server for LLM agents. */
export { Client } from "./client.js";
export type { Tls } from "./connection.js";
export {
  AbortedError,
  AlreadyExistsError,
  CancelledError,
  DeadlineExceededError,
  type ErrorDetails,
  FailedPreconditionError,
  InternalError,
  InvalidArgumentError,
  LightMemError,
  NotFoundError,
  OverloadedError,
  PermissionDeniedError,
  UnauthenticatedError,
  UnavailableError,
  UnimplementedError,
  WriteAbandonedError,
} from "./errors.js";
export { allOf, anyOf, type Expression, type MemoryFilter, meta, not } from "./filters.js";
export type {
  CallOptions,
  ClientOptions,
  ListOptions,
  NewKey,
  RetrieveOptions,
  RetrieveResult,
  ScopeOptions,
  UpdateOptions,
  WriteOptions,
} from "./options.js";
export { type MemoryChanges, type Metadata, metadataOf, type Scalar, type Turn } from "./records.js";
export type { RetryPolicy } from "./retry.js";
export { PendingWrite, type WaitOptions, Writer } from "./writer.js";

/** Times in records are protobuf's: this gives them as a Date. */
export { timestampDate } from "@bufbuild/protobuf/wkt";

export type {
  ApiKey,
  BackupResponse as BackupProgress,
  CancelConsolidationResponse as CancelledConsolidation,
  ConsolidateResponse as ConsolidationProgress,
  CreateKeyResponse as CreatedKey,
  EraseUserResponse as Erasure,
  ExportUserResponse as ExportPart,
  GetStatsResponse as Stats,
  ImportUserResponse as ImportResult,
  RotateKeyResponse as RotatedKey,
  UndoConsolidationResponse as UndoneConsolidation,
} from "./gen/lightmem/v1/admin_service_pb.js";
export { Kind, type Memory, Role, State, type Statement, Tier } from "./gen/lightmem/v1/memory_pb.js";
export {
  DropReason,
  type ExplainResponse as Explanation,
  type GetMemoryHistoryResponse_Change as MemoryVersion,
  QueryNeed,
  type RetrievalTrace,
  type RetrievedMemory,
  type RetrieveResponse as RetrievePart,
  SelectorMode,
  SelectorStop,
  type WriteResponse as WriteResult,
} from "./gen/lightmem/v1/memory_service_pb.js";
