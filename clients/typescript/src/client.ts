/** The client: one class, a method per call. */
import type { DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Metadata } from "@grpc/grpc-js";

import { fold, present, toBounds, toImportRequests, toRetrieveRequest } from "./calls.js";
import { findTarget } from "./connection.js";
import { DeadlineExceededError, isTransient, LightMemError, NotFoundError, toError, UnavailableError } from "./errors.js";
import { toFilter } from "./filters.js";
import { AdminService, type ApiKey, type CreateKeyResponse } from "./gen/lightmem/v1/admin_service_pb.js";
import type {
  BackupResponse,
  CancelConsolidationResponse,
  ConsolidateResponse,
  EraseUserResponse,
  ExportUserResponse,
  GetStatsResponse,
  ImportUserResponse,
  RotateKeyResponse,
  UndoConsolidationResponse,
} from "./gen/lightmem/v1/admin_service_pb.js";
import type { Memory } from "./gen/lightmem/v1/memory_pb.js";
import {
  type ExplainResponse,
  type GetMemoryHistoryResponse_Change,
  MemoryService,
  type RetrieveResponse,
  type WriteResponse,
} from "./gen/lightmem/v1/memory_service_pb.js";
import type {
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
import { type MemoryChanges, refuse, toCount, toMetadata, toTimestamp, toVersion, type Turn } from "./records.js";
import { Deadline, DEFAULT_RETRY, pause, repeat, type RetryPolicy, waitSeconds } from "./retry.js";
import { read, Transport } from "./transport.js";
import { type Scope, toWriteRequest, Writer } from "./writer.js";

const SERVING = 1;

/**
 * Speaks to one LightMem server. Nothing is opened before the first call. Every call throws a LightMemError when it fails; what may be
 * repeated is, with backoff, on UnavailableError and on OverloadedError that says when, within the call's timeout.
 */
export class Client {
  /** Where the server is. */
  readonly target: string;
  private readonly transport: Transport;
  private readonly userId: string;
  private readonly agentId: string;
  private readonly timeoutSeconds: number;
  private readonly retry: RetryPolicy;

  constructor(options: ClientOptions = {}) {
    this.target = findTarget(options.target);
    this.transport = new Transport(this.target, options.apiKey, options.tls);
    this.userId = options.userId ?? "";
    this.agentId = options.agentId ?? "";
    this.timeoutSeconds = options.timeoutSeconds ?? 30;
    this.retry = { ...DEFAULT_RETRY, ...options.retry };
  }

  /** Ends the connection; calls at work fail with a CancelledError. Closing again does nothing. */
  close(): void {
    this.transport.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Stores one turn or several, whole or not at all; when it resolves, they are on disk and can be found. */
  async write(turns: string | Turn | Iterable<string | Turn>, options: WriteOptions = {}): Promise<WriteResponse> {
    const request = toWriteRequest(this.scope(options), turns, options.requestId);
    return this.unary(MemoryService.method.write, request, options);
  }

  /** A stream for many writes to one scope. `maxInFlight`: most requests without acknowledgement; beyond it `send` waits. */
  openWriter({ maxInFlight = 32, ...options }: ScopeOptions & { maxInFlight?: number } = {}): Writer {
    const most = toCount(maxInFlight, "max_in_flight");
    return new Writer(this.transport, this.scope(options), this.retry, options.timeoutSeconds ?? this.timeoutSeconds, most);
  }

  /** What the agent needs to know now; `sessionId` names the running conversation. */
  async retrieve(query: string, options: RetrieveOptions = {}): Promise<RetrieveResult> {
    const request = toRetrieveRequest(this.scope(options), query, options);
    return this.repeat(options, true, async (deadline) => {
      const bounds = { deadline: deadline.at, signal: options.signal };
      return fold(this.transport.stream(MemoryService.method.retrieve, request, bounds), !request.excludeTrace);
    });
  }

  /** As `retrieve`, part by part as they come. Leaving the loop early cancels the call. */
  async *retrieveStream(query: string, options: RetrieveOptions = {}): AsyncGenerator<RetrieveResponse, void, undefined> {
    const request = toRetrieveRequest(this.scope(options), query, options);
    const { parts, first } = await this.repeat(options, true, async (deadline) => {
      const bounds = { deadline: deadline.at, signal: options.signal };
      const parts = this.transport.stream(MemoryService.method.retrieve, request, bounds);
      return { parts, first: await parts.next() }; // repeated only until something has come
    });
    if (first.done) return;
    try {
      yield first.value;
      yield* parts;
    } finally {
      await parts.return();
    }
  }

  /** Why a memory is, or is not, among what `retrieve` with the same arguments returns. */
  async explain(query: string, memoryId: string, options: RetrieveOptions = {}): Promise<ExplainResponse> {
    const retrieve = toRetrieveRequest(this.scope(options), query, options);
    return this.unary(MemoryService.method.explain, { retrieve, memoryId }, options);
  }

  /** One memory. */
  async get(memoryId: string, options: CallOptions = {}): Promise<Memory> {
    const request = { scope: this.scope(options), memoryId };
    return present((await this.unary(MemoryService.method.getMemory, request, options)).memory);
  }

  /** All memories, newest first, fetched page by page as the loop goes; the timeout is a page's. */
  async *list(options: ListOptions = {}): AsyncGenerator<Memory, void, undefined> {
    const { filter, pageSize = 100 } = options;
    const request = { scope: this.scope(options), pageSize: toCount(pageSize, "page_size"), ...(filter && { filter: toFilter(filter) }) };
    let pageToken = "";
    do {
      const page = await this.unary(MemoryService.method.listMemories, { ...request, pageToken }, options);
      yield* page.memories;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /**
   * Changes metadata, pin or expiry; what is left out stays. It is repeated only with `expectedVersion`: without, a repetition could
   * undo another's change in between. An AbortedError may then also mean that the first attempt went through: read again, then decide.
   */
  async update(memoryId: string, changes: MemoryChanges, options: UpdateOptions = {}): Promise<Memory> {
    const paths: string[] = [];
    if (changes.metadata !== undefined) paths.push("metadata");
    if (changes.isPinned !== undefined) paths.push("is_pinned");
    if (changes.expiresAt !== undefined) paths.push("expires_at");
    if (paths.length === 0) throw refuse("update_mask", "nothing to change; give metadata, isPinned or expiresAt", "REQUIRED");
    const request = {
      scope: this.scope(options),
      memory: {
        id: memoryId,
        metadata: toMetadata(changes.metadata ?? {}, "memory.metadata"),
        isPinned: changes.isPinned ?? false,
        ...(changes.expiresAt && { expiresAt: toTimestamp(changes.expiresAt, "memory.expires_at") }),
      },
      updateMask: { paths },
      expectedVersion: toVersion(options.expectedVersion ?? 0),
    };
    const isRepeatable = request.expectedVersion !== 0n;
    return present((await this.unary(MemoryService.method.updateMemory, request, options, isRepeatable)).memory);
  }

  /** Deletes one memory for good; NotFoundError when it wasn't there before the first attempt. */
  async delete(memoryId: string, options: CallOptions = {}): Promise<void> {
    const request = { scope: this.scope(options), memoryId };
    let isUnclear = false;
    await this.repeat(options, true, async (deadline) => {
      try {
        const bounds = { deadline: deadline.at, signal: options.signal };
        await this.transport.unary(MemoryService.method.deleteMemory, request, bounds);
      } catch (error) {
        if (isUnclear && error instanceof NotFoundError) return; // an attempt whose outcome was not known has done it
        isUnclear ||= error instanceof UnavailableError;
        throw error;
      }
    });
  }

  /** Every version of one memory, oldest first, with what made it so. */
  async history(memoryId: string, options: CallOptions = {}): Promise<GetMemoryHistoryResponse_Change[]> {
    const request = { scope: this.scope(options), memoryId };
    return (await this.unary(MemoryService.method.getMemoryHistory, request, options)).changes;
  }

  /** The running conversation of a session, oldest first; empty when there is none. */
  async getContext(sessionId: string, options: CallOptions & { maxTurns?: number } = {}): Promise<Memory[]> {
    const request = { scope: this.scope({ ...options, sessionId }), maxTurns: toCount(options.maxTurns, "max_turns", 0) };
    return (await this.unary(MemoryService.method.getContext, request, options)).turns;
  }

  /** Figures of the whole namespace, or of one user when one is given here. Needs an admin key. */
  async stats(options: CallOptions = {}): Promise<GetStatsResponse> {
    return this.unary(AdminService.method.getStats, { userId: options.userId ?? "" }, options);
  }

  /**
   * Turns a user's new turns into summaries and facts now, or follows the run at work; yields until it ends. Leaving the loop early stops
   * nothing. `timeoutSeconds` is of the whole run; left out: none. Needs an admin key.
   */
  async *consolidate(options: CallOptions = {}): AsyncGenerator<ConsolidateResponse, void, undefined> {
    const request = { userId: this.scope(options).userId ?? "" };
    yield* this.transport.stream(AdminService.method.consolidate, request, toBounds(options));
  }

  /** Ends a user's run, and drops what waits; what the run had stored stays. Needs an admin key. */
  async cancelConsolidation(options: CallOptions = {}): Promise<CancelConsolidationResponse> {
    const request = { userId: this.scope(options).userId ?? "" };
    return this.unary(AdminService.method.cancelConsolidation, request, options);
  }

  /** Takes back everything that a run changed. Needs an admin key. */
  async undoConsolidation(runId: string, options: CallOptions = {}): Promise<UndoConsolidationResponse> {
    return this.unary(AdminService.method.undoConsolidation, { runId }, options);
  }

  /**
   * Removes everything of a user, its bytes on disk too. What the user writes afterwards is a new user's; keys stay. There is no default
   * for the user. Never repeated by itself: a repetition would lose the counts, and erase who writes meanwhile once more; repeat it when it
   * fails. `timeoutSeconds` is 120 by default. Needs an admin key.
   */
  async eraseUser(userId: string, options: Omit<CallOptions, "userId"> = {}): Promise<EraseUserResponse> {
    return this.unary(AdminService.method.eraseUser, { userId }, { timeoutSeconds: 120, ...options }, false);
  }

  /**
   * Everything of a user, as of one moment, part by part as it is read: lines of JSON that make a file. `timeoutSeconds` is of the whole
   * export; left out: none. Needs an admin key.
   */
  async *exportUser(userId: string, options: Omit<CallOptions, "userId"> = {}): AsyncGenerator<ExportUserResponse, void, undefined> {
    yield* this.transport.stream(AdminService.method.exportUser, { userId }, toBounds(options));
  }

  /**
   * Takes in what `exportUser` gave, line by line in order, ids kept. What is there already stays; so when it fails, send everything again.
   * Never repeated by itself. `timeoutSeconds` is of the whole import; left out: none. Needs an admin key.
   */
  async importUser(
    userId: string,
    lines: Iterable<string> | AsyncIterable<string>,
    options: Omit<CallOptions, "userId"> = {},
  ): Promise<ImportUserResponse> {
    const requests = toImportRequests(userId, lines);
    return this.transport.unary(AdminService.method.importUser, requests, toBounds(options));
  }

  /**
   * Copies the whole store to a file on the server's machine while the server goes on, under this name within its folder of backups (left
   * out: the time); yields until the copy is complete, verified and on disk. Leaving the loop early leaves no file. Never repeated by
   * itself. `timeoutSeconds` is of the whole backup; left out: none. Needs the operator's key.
   */
  async *backup(name = "", options: Omit<CallOptions, "userId"> = {}): AsyncGenerator<BackupResponse, void, undefined> {
    yield* this.transport.stream(AdminService.method.backup, { name }, toBounds(options));
  }

  /** Makes a key; for no users: for all. Never repeated by itself. Needs an admin key. */
  async createKey({ expiresAt, ...rest }: NewKey = {}, options: CallOptions = {}): Promise<CreateKeyResponse> {
    const key = { ...rest, ...(expiresAt && { expiresAt: toTimestamp(expiresAt, "key.expires_at") }) };
    return this.unary(AdminService.method.createKey, { key }, options, false);
  }

  /** A namespace's keys, the caller's by default, in the order of their ids, without their secrets. Needs an admin key. */
  async *listKeys(options: CallOptions & { namespace?: string } = {}): AsyncGenerator<ApiKey, void, undefined> {
    let pageToken = "";
    do {
      const request = { pageToken, namespace: options.namespace ?? "" };
      const page = await this.unary(AdminService.method.listKeys, request, options);
      yield* page.keys;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /**
   * Puts a new key with the same rights in a key's place; the old one works for `overlapSeconds`, by default not at all. Never repeated by
   * itself. Needs an admin key.
   */
  async rotateKey(keyId: string, options: CallOptions & { overlapSeconds?: number } = {}): Promise<RotateKeyResponse> {
    const { overlapSeconds } = options;
    const request = { keyId, ...(overlapSeconds && { overlap: durationFromMs(Math.round(overlapSeconds * 1000)) }) };
    return this.unary(AdminService.method.rotateKey, request, options, false);
  }

  /** Makes a key useless at once. Needs an admin key. */
  async revokeKey(keyId: string, options: CallOptions = {}): Promise<ApiKey> {
    return present((await this.unary(AdminService.method.revokeKey, { keyId }, options)).key);
  }

  /** Whether a server answers and is ready. Needs no key. */
  async isHealthy({ timeoutSeconds = 5, signal }: Omit<CallOptions, "userId"> = {}): Promise<boolean> {
    try {
      for await (const status of this.health("Check", new Deadline(timeoutSeconds), signal)) return status === SERVING;
    } catch (error) {
      if (!(error instanceof LightMemError)) throw error;
    }
    return false;
  }

  /** Waits until the server is there and ready, or throws a DeadlineExceededError. Needs no key. */
  async waitReady({ timeoutSeconds = this.timeoutSeconds, signal }: Omit<CallOptions, "userId"> = {}): Promise<void> {
    const deadline = new Deadline(timeoutSeconds);
    for (let failures = 1; ; failures++) {
      try {
        for await (const status of this.health("Watch", deadline, signal)) if (status === SERVING) return;
        throw new UnavailableError("the server stopped answering", { reason: "STREAM_ENDED" });
      } catch (thrown) {
        const error = toError(thrown);
        const seconds = waitSeconds(this.retry, failures, error);
        const isLate = error instanceof DeadlineExceededError || seconds >= deadline.remainingSeconds();
        if (isLate && (isTransient(error) || error instanceof DeadlineExceededError)) {
          const message = `no server is ready at ${this.target}`;
          throw new DeadlineExceededError(message, { reason: "NOT_READY", cause: error });
        }
        if (!isTransient(error)) throw error;
        await pause(seconds, signal);
      }
    }
  }

  /**
   * The statuses that grpc.health.v1.Health answers. Its messages are too small to generate code for: the request is empty, and the
   * answer has one field, an enum, as byte 8 and its number.
   */
  private health(name: "Check" | "Watch", deadline: Deadline, signal: AbortSignal | undefined): AsyncGenerator<number> {
    const call = this.transport.openRaw<Buffer, number>(
      `/grpc.health.v1.Health/${name}`,
      (request) => request,
      (answer) => (answer[0] === 8 ? (answer[1] ?? 0) : 0),
      new Metadata({ waitForReady: name === "Watch" }),
      { deadline: deadline.at, signal },
    );
    call.end(Buffer.alloc(0));
    return read(call as Parameters<typeof read<number>>[0], signal);
  }

  /** Whose memory a call is about: its own options, else the client's. */
  private scope({ userId = this.userId, agentId = this.agentId, sessionId = "" }: ScopeOptions): Scope {
    if (!userId) throw refuse("scope.user_id", "is required; give userId to the call or to the client", "REQUIRED");
    return { userId, agentId, sessionId };
  }

  private repeat<T>(options: CallOptions, isRepeatable: boolean, attempt: (deadline: Deadline) => Promise<T>): Promise<T> {
    const deadline = new Deadline(options.timeoutSeconds ?? this.timeoutSeconds);
    return repeat(this.retry, deadline, options.signal, isRepeatable, () => attempt(deadline));
  }

  private unary<M extends DescMethod>(
    method: M,
    request: MessageInitShape<M["input"]>,
    options: CallOptions,
    isRepeatable = true,
  ): Promise<MessageShape<M["output"]>> {
    return this.repeat(options, isRepeatable, (deadline) =>
      this.transport.unary(method, request, { deadline: deadline.at, signal: options.signal }),
    );
  }
}
