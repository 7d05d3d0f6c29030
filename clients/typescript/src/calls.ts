/** From what a call takes to what is sent, and from its answers to what it gives. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";

import { InternalError } from "./errors.js";
import { toFilter } from "./filters.js";
import type { RetrievalTrace, RetrieveRequestSchema, RetrieveResponse } from "./gen/lightmem/v1/memory_service_pb.js";
import type { CallOptions, RetrieveOptions, RetrieveResult } from "./options.js";
import { refuse, toCount, toText, toTimestamp } from "./records.js";
import { Deadline } from "./retry.js";
import type { Bounds } from "./transport.js";
import type { Scope } from "./writer.js";

/** A retrieval. Throws an InvalidArgumentError for a value that cannot be sent. */
export function toRetrieveRequest(
  scope: Scope,
  query: string,
  options: RetrieveOptions,
): MessageInitShape<typeof RetrieveRequestSchema> {
  const { maxMemories, maxCandidates, maxTokens, deadlineSeconds, filter, askedAt, minRelevance } = options;
  if (deadlineSeconds !== undefined && !(deadlineSeconds > 0 && Number.isFinite(deadlineSeconds))) {
    throw refuse("budget.deadline", `must be more than 0 seconds, not ${deadlineSeconds}`, "OUT_OF_RANGE");
  }
  return {
    scope,
    query: toText(query, "query"),
    budget: {
      maxMemories: toCount(maxMemories, "budget.max_memories"),
      maxCandidates: toCount(maxCandidates, "budget.max_candidates"),
      maxTokens: toCount(maxTokens, "budget.max_tokens"),
      ...(deadlineSeconds && { deadline: durationFromMs(Math.max(1, Math.round(deadlineSeconds * 1000))) }),
    },
    ...(filter && { filter: toFilter(filter) }),
    ...(askedAt && { askedAt: toTimestamp(askedAt, "asked_at") }),
    timeZone: options.timeZone ?? "",
    selectorMode: options.selectorMode ?? 0,
    ...(minRelevance !== undefined && { minRelevance }),
    includeCoarse: options.includeCoarse ?? false,
    excludeContext: options.excludeContext ?? false,
    excludeShared: options.excludeShared ?? false,
    excludeTrace: options.excludeTrace ?? false,
    hypotheticalQueries: toCount(options.hypotheticalQueries, "hypothetical_queries", 0),
    tokenizer: options.tokenizer ?? "",
  };
}

/** What bounds a call of any length, which is made once. */
export function toBounds({ timeoutSeconds, signal }: CallOptions): Bounds {
  return { deadline: timeoutSeconds === undefined ? undefined : new Deadline(timeoutSeconds).at, signal };
}

/** How much goes into one message of an import; the server takes 4 MiB and 4,096 lines. */
const IMPORT_BYTES = 256 << 10;
const IMPORT_LINES = 1000;

/** The messages of an import; at least one. */
export async function* toImportRequests(userId: string, lines: Iterable<string> | AsyncIterable<string>) {
  let jsonLines: string[] = [];
  let size = 0;
  let isFirst = true;
  for await (const line of lines) {
    jsonLines.push(toText(line.replace(/\n$/, ""), "json_lines"));
    size += line.length;
    if (size >= IMPORT_BYTES || jsonLines.length >= IMPORT_LINES) {
      yield { userId, jsonLines };
      [jsonLines, size, isFirst] = [[], 0, false];
    }
  }
  if (isFirst || jsonLines.length > 0) yield { userId, jsonLines };
}

export async function fold(parts: AsyncIterable<RetrieveResponse>, hasTrace: boolean): Promise<RetrieveResult> {
  const result: Partial<RetrieveResult> & Pick<RetrieveResult, "context" | "coarse"> = { context: [], coarse: [] };
  let trace: RetrievalTrace | undefined;
  for await (const { part } of parts) {
    if (part.case === "context") result.context = part.value.turns;
    if (part.case === "coarse") result.coarse = part.value.hits;
    if (part.case === "trace") trace = part.value;
    if (part.case === "memories") {
      const { memories, sharedMemories, packedContext, tokenCount } = part.value;
      Object.assign(result, { memories, sharedMemories, packedContext, tokenCount });
    }
  }
  if (!result.memories || (hasTrace && !trace)) {
    throw new InternalError("the answer ended too early", { reason: "INCOMPLETE_ANSWER" });
  }
  const toTrace = () => {
    if (!trace) throw new TypeError("the answer has no trace: it was asked for with excludeTrace");
    return trace;
  };
  return Object.defineProperty(result, "trace", { get: toTrace, enumerable: trace !== undefined }) as RetrieveResult;
}

export function present<T>(value: T | undefined): T {
  if (value === undefined) throw new InternalError("the answer is empty", { reason: "INCOMPLETE_ANSWER" });
  return value;
}
