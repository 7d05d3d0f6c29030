/** When a failed call is tried again, and how long to wait before. */
import { setTimeout as sleep } from "node:timers/promises";

import { CancelledError, isTransient, type LightMemError, toError } from "./errors.js";
import { refuse } from "./records.js";

/** How often and how fast a call is repeated that may be. Waits double, with jitter, within the call's timeout. */
export interface RetryPolicy {
  /** Most tries of one call, the first included. 1: none is repeated. */
  maxAttempts: number;
  /** The longest first wait. */
  initialSeconds: number;
  /** The longest wait. */
  maxSeconds: number;
}

export const DEFAULT_RETRY: RetryPolicy = { maxAttempts: 5, initialSeconds: 0.1, maxSeconds: 2 };

/** How long to wait after so many failures in a row, at least as long as the server asks for. */
export function waitSeconds(policy: RetryPolicy, failures: number, error: LightMemError): number {
  const longest = Math.min(policy.maxSeconds, policy.initialSeconds * 2 ** Math.min(failures - 1, 30));
  return Math.max(error.retryAfterSeconds ?? 0, (longest * (1 + Math.random())) / 2);
}

/** The moment by which a call with all its repetitions ends. */
export class Deadline {
  /** In milliseconds of the wall clock, as gRPC takes it. */
  readonly at: number;

  /** Infinity: never. */
  constructor(timeoutSeconds: number) {
    if (Number.isNaN(timeoutSeconds)) throw refuse("timeout_seconds", "is no number", "OUT_OF_RANGE");
    this.at = Date.now() + timeoutSeconds * 1000;
  }

  remainingSeconds(): number {
    return Math.max(0, (this.at - Date.now()) / 1000);
  }
}

/** Waits, or throws a CancelledError when the signal comes first. */
export async function pause(seconds: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(seconds * 1000, undefined, signal ? { signal } : {});
  } catch {
    throw new CancelledError("the call was cancelled", { reason: "CANCELLED", cause: signal?.reason });
  }
}

/** Runs attempts until one succeeds, fails for good, or time or attempts are used up: then the last error is thrown. */
export async function repeat<T>(
  policy: RetryPolicy,
  deadline: Deadline,
  signal: AbortSignal | undefined,
  isRepeatable: boolean,
  attempt: () => Promise<T>,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await attempt();
    } catch (thrown) {
      const error = toError(thrown);
      const seconds = waitSeconds(policy, failures, error);
      const isOver = failures >= policy.maxAttempts || seconds >= deadline.remainingSeconds();
      if (!isRepeatable || !isTransient(error) || isOver) throw error;
      await pause(seconds, signal);
    }
  }
}
