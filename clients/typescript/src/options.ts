/** What a client and its calls take, and what a retrieval gives. */
import type { Tls } from "./connection.js";
import type { Expression, MemoryFilter } from "./filters.js";
import type { Memory } from "./gen/lightmem/v1/memory_pb.js";
import type { RetrievalTrace, RetrievedMemory, SelectorMode } from "./gen/lightmem/v1/memory_service_pb.js";
import type { RetryPolicy } from "./retry.js";

/** How a client is made; everything has a default. */
export interface ClientOptions {
  /** HOST:PORT. Default: LIGHTMEM_TARGET, else localhost:7420. */
  target?: string;
  /** Default: LIGHTMEM_API_KEY, else for a server on this machine the key that its first start left. */
  apiKey?: string;
  /** For the calls that name no user. */
  userId?: string;
  /** For the calls that name no agent. */
  agentId?: string;
  /** For the calls that give none; repetitions included. Default: 30. */
  timeoutSeconds?: number;
  /** Left out: TLS unless the target is this machine. false: plain text, the key in the clear. */
  tls?: Tls | boolean;
  /** How often and how fast to repeat. */
  retry?: Partial<RetryPolicy>;
}

/** What every call takes. */
export interface CallOptions {
  userId?: string;
  /** Repetitions included. */
  timeoutSeconds?: number;
  /** Cancels the call. */
  signal?: AbortSignal;
}

/** Whose memory, and which conversation. */
export interface ScopeOptions extends CallOptions {
  sessionId?: string;
  agentId?: string;
}

export interface WriteOptions extends ScopeOptions {
  /** Makes a repeated write harmless, over the client's life too. Default: one of its own for each write. */
  requestId?: string;
}

/** The options of `retrieve`, `retrieveStream` and `explain`; leave out what the server's default serves. */
export interface RetrieveOptions extends ScopeOptions {
  /** Most memories to return, 1 to 100. */
  maxMemories?: number;
  /** Most candidates that the Selector sees, 1 to 200, at least maxMemories. */
  maxCandidates?: number;
  /** Most tokens of the packed context, 1 to 32,768. */
  maxTokens?: number;
  /** How long the server may take, 0.001 to 10. Late means less judged, never late. */
  deadlineSeconds?: number;
  /** Which memories to consider; an expression over metadata alone will do. */
  filter?: MemoryFilter | Expression;
  /** The moment to which "yesterday" in the query is relative. Default: the server's clock. */
  askedAt?: Date;
  /** IANA name of the user's time zone, such as "Europe/Berlin". Default: UTC. */
  timeZone?: string;
  /** How much the Selector may do. */
  selectorMode?: SelectorMode;
  /** Memories with a lower relevance are not returned, 0 to 1. */
  minRelevance?: number;
  /** Also return the coarse hits, before the Selector judged them. */
  includeCoarse?: boolean;
  /** Leave the running conversation out of the answer. */
  excludeContext?: boolean;
  /** Leave facts of the shared LTM out of the answer. */
  excludeShared?: boolean;
  /** Leave the trace out of the answer: a millisecond less, and 10 KB. */
  excludeTrace?: boolean;
  /** How many guesses at the memory looked for the server's Writer may add, 0 to 4; give it seconds of deadline. */
  hypotheticalQueries?: number;
  /** How tokens are counted: a name that the server knows. Default: the embedder's tokenizer. */
  tokenizer?: string;
}

export interface ListOptions extends CallOptions {
  filter?: MemoryFilter | Expression;
  /** How many are fetched at once, at most 1,000. Default: 100. */
  pageSize?: number;
}

export interface UpdateOptions extends CallOptions {
  /** Change only when the record's version is this. */
  expectedVersion?: bigint | number;
}

export interface NewKey {
  label?: string;
  /** The users it may act for; none: all. */
  userIds?: string[];
  isAdmin?: boolean;
  /** When it stops working. Left out: never. */
  expiresAt?: Date;
  /** Whose memories it opens. Left out: the caller's. Another one: the server's operator alone. */
  namespace?: string;
}

/** A whole answer. */
export interface RetrieveResult {
  /** The running conversation of the session, oldest first. */
  context: Memory[];
  /** The coarse hits, when asked for. */
  coarse: RetrievedMemory[];
  /** What was selected, best first. */
  memories: RetrievedMemory[];
  /** What several users of the namespace say alike, best first; nobody's. Empty unless the server shares. */
  sharedMemories: RetrievedMemory[];
  /** The conversation's newest turns and the memories as text, with dates and speakers, for a prompt. */
  packedContext: string;
  /** Tokens of `packedContext`. */
  tokenCount: number;
  /** How it came about. Throws where `excludeTrace` left it out. */
  readonly trace: RetrievalTrace;
}
