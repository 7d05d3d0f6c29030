/** A stream for many writes to one scope. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { onAbort } from "./abort.js";
import {
  CancelledError,
  DeadlineExceededError,
  InternalError,
  isTransient,
  LightMemError,
  toError,
  UnavailableError,
  WriteAbandonedError,
} from "./errors.js";
import type { ScopeSchema } from "./gen/lightmem/v1/memory_pb.js";
import { MemoryService, type WriteRequest, WriteRequestSchema, type WriteResponse } from "./gen/lightmem/v1/memory_service_pb.js";
import { type Turn, toTurns } from "./records.js";
import { Deadline, pause, type RetryPolicy, waitSeconds } from "./retry.js";
import { type Call, drained, read, type Transport } from "./transport.js";

export type Scope = MessageInitShape<typeof ScopeSchema>;

/** A write; with a fresh request id where the caller has none, so that it can be retried. */
export function toWriteRequest(
  scope: Scope,
  turns: string | Turn | Iterable<string | Turn>,
  requestId?: string | undefined,
): WriteRequest {
  const id = requestId || crypto.randomUUID().replaceAll("-", "");
  return create(WriteRequestSchema, { scope, turns: toTurns(turns), requestId: id });
}

/** A request on its way. */
export class PendingWrite {
  /** The acknowledgement, or what it failed with. */
  readonly result: Promise<WriteResponse>;
  /** @internal */
  acknowledge!: (response: WriteResponse) => void;
  /** @internal */
  fail!: (error: LightMemError) => void;

  /** @internal */
  constructor(readonly request: WriteRequest) {
    this.result = new Promise((resolve, reject) => {
      this.acknowledge = resolve;
      this.fail = reject;
    });
    this.result.catch(() => {}); // `flush` and `close` say it too; whoever doesn't ask here need not catch
  }

  /** What makes sending it again harmless. */
  get requestId(): string {
    return this.request.requestId;
  }
}

/** How long a wait may take. */
export interface WaitOptions {
  timeoutSeconds?: number;
  signal?: AbortSignal;
}

interface Waiter {
  check: () => void;
}

/**
 * Streams turns of one scope: fast, in order, and it survives a lost connection.
 *
 * When the connection breaks, it reconnects with backoff and sends again what was not acknowledged, with the same request ids, so
 * nothing is stored twice. A request that is refused ends the writer: its error goes to its PendingWrite, those behind it get
 * WriteAbandonedError, and so does every later `send`.
 */
export class Writer {
  private readonly window: PendingWrite[] = []; // oldest first; those before `sent` are on the present stream
  private readonly waiters = new Set<Waiter>();
  private readonly aborter = new AbortController();
  private sent = 0;
  private error: LightMemError | undefined;
  private isClosed = false;
  private worker: Promise<void> | undefined;

  /** @internal */
  constructor(
    private readonly transport: Transport,
    private readonly scope: Scope,
    private readonly retry: RetryPolicy,
    private readonly timeoutSeconds: number,
    private readonly maxInFlight: number,
  ) {}

  /**
   * Hands over one request of one or several turns; `requestId` makes it harmless to send over the writer's life too. Resolves at once, or waits while `maxInFlight` requests are on their way. Throws a
   * DeadlineExceededError when the window stayed full; the request was not taken in then.
   */
  async send(
    turns: string | Turn | Iterable<string | Turn>,
    { requestId, ...options }: WaitOptions & { requestId?: string } = {},
  ): Promise<PendingWrite> {
    const pending = new PendingWrite(toWriteRequest(this.scope, turns, requestId));
    await this.wait(options, () => {
      if (this.error) throw this.abandoned();
      if (this.isClosed) throw new CancelledError("the writer is closed", { reason: "CLOSED" });
      if (this.window.length >= this.maxInFlight) return false;
      this.window.push(pending);
      return true;
    });
    this.worker ??= this.work();
    this.change();
    return pending;
  }

  /** Waits until everything sent is acknowledged; throws what a request failed with. */
  async flush(options: WaitOptions = {}): Promise<void> {
    await this.wait(options, () => {
      if (this.error) throw this.error;
      return this.window.length === 0;
    });
  }

  /** Flushes, then ends the stream. Closing again does nothing more. */
  async close(options: WaitOptions = {}): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    this.change();
    try {
      await this.flush(options);
    } catch (error) {
      this.abandon(new CancelledError("the writer was closed before the acknowledgement", { reason: "CLOSED" }));
      this.aborter.abort();
      throw error;
    } finally {
      await this.worker;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Waits until a condition holds; it is looked at after every change. */
  private wait({ timeoutSeconds = this.timeoutSeconds, signal }: WaitOptions, isReached: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        this.waiters.delete(waiter);
        clearTimeout(timer);
        unhear();
        settle();
      };
      const abort = () =>
        end(() => reject(new CancelledError("the wait was cancelled", { reason: "CANCELLED", cause: signal?.reason })));
      const late = () => {
        const message = `requests were not acknowledged within ${timeoutSeconds} s`;
        end(() => reject(new DeadlineExceededError(message, { reason: "DEADLINE_EXCEEDED" })));
      };
      // beyond what setTimeout can count to: no timer, which would hold the process up
      const timer = timeoutSeconds > LONGEST_TIMER_SECONDS ? undefined : setTimeout(late, timeoutSeconds * 1000);
      const waiter = {
        check: () => {
          try {
            if (isReached()) end(resolve);
          } catch (error) {
            end(() => reject(error));
          }
        },
      };
      this.waiters.add(waiter);
      const unhear = onAbort(signal, abort);
      if (signal?.aborted) return abort();
      waiter.check();
    });
  }

  private change(): void {
    for (const waiter of [...this.waiters]) waiter.check();
  }

  private abandoned(): WriteAbandonedError {
    const message = "an earlier request of this writer failed";
    return new WriteAbandonedError(message, { reason: "WRITE_ABANDONED", cause: this.error });
  }

  /** One stream after another until the writer is closed or fails. */
  private async work(): Promise<void> {
    let failures = 0;
    let deadline = new Deadline(this.timeoutSeconds);
    while (await this.hasWork()) {
      const progress = { count: 0 };
      try {
        await this.converse(progress);
        failures = 0;
      } catch (thrown) {
        const error = toError(thrown);
        if (failures === 0 || progress.count > 0) {
          failures = 0;
          deadline = new Deadline(this.timeoutSeconds);
        }
        failures++;
        const seconds = waitSeconds(this.retry, failures, error);
        if (!isTransient(error) || seconds >= deadline.remainingSeconds()) {
          this.abandon(error);
          return;
        }
        await pause(seconds, this.aborter.signal).catch(() => {}); // closed meanwhile: there is no more work
      }
    }
  }

  /** Waits for something to send; false when there will be no more. */
  private async hasWork(): Promise<boolean> {
    await this.wait({ timeoutSeconds: Infinity }, () => {
      this.sent = 0; // a new stream begins: what is left is sent again, in order
      return this.window.length > 0 || this.isClosed || this.error !== undefined;
    });
    return this.window.length > 0;
  }

  /** One stream, to its end. Throws when it broke off with requests unanswered. */
  private async converse(progress: { count: number }): Promise<void> {
    const call = this.transport.open(MemoryService.method.write, { signal: this.aborter.signal });
    const over = new AbortController();
    const sending = this.sendUnsent(call, over.signal);
    try {
      for await (const response of read(call, this.aborter.signal)) {
        this.acknowledge(response);
        progress.count++;
      }
    } catch (error) {
      if (this.window.length > 0) throw error;
    } finally {
      over.abort();
      await sending;
    }
    if (this.window.length > 0) {
      throw new UnavailableError("the server ended the stream with requests unanswered", { reason: "STREAM_ENDED" });
    }
  }

  /** Sends what waits; the end of it is the end of our half of the stream. */
  private async sendUnsent(call: Call<typeof MemoryService.method.write>, over: AbortSignal): Promise<void> {
    while (true) {
      let next: PendingWrite | undefined;
      try {
        await this.wait({ timeoutSeconds: Infinity, signal: over }, () => {
          if (this.sent < this.window.length) next = this.window[this.sent++];
          return next !== undefined || this.isClosed || this.error !== undefined;
        });
      } catch {
        return; // the stream is over
      }
      if (!next) {
        call.end();
        return;
      }
      if (!call.write(next.request)) await drained(call, over);
    }
  }

  private acknowledge(response: WriteResponse): void {
    const pending = this.window[0];
    if (!pending || this.sent === 0 || pending.requestId !== response.requestId) {
      const message = `the server acknowledged request '${response.requestId}' out of order`;
      throw new InternalError(message, { reason: "ACKNOWLEDGED_OUT_OF_ORDER" });
    }
    this.window.shift();
    this.sent--;
    pending.acknowledge(response);
    this.change();
  }

  /** The end of the writer: the oldest request failed with this error, the others with it. */
  private abandon(error: LightMemError): void {
    const abandoned = this.window.splice(0);
    this.sent = 0;
    if (abandoned.length > 0) this.error ??= error;
    abandoned.forEach((pending, i) => pending.fail(i === 0 ? error : this.abandoned()));
    this.change();
  }
}

const LONGEST_TIMER_SECONDS = 2_147_483;
