/** Calls over one gRPC channel. Every method is called as a stream, which is the same on the wire, so there is one way to do it. */
import { create, type DescMethod, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, Metadata } from "@grpc/grpc-js";

import { onAbort } from "./abort.js";
import { channelCredentials, findKey, isLocal, type Tls } from "./connection.js";
import { CancelledError, InternalError, toError } from "./errors.js";

/** What bounds one attempt of a call. */
export interface Bounds {
  /** In milliseconds of the wall clock. Undefined: none. */
  deadline?: number | undefined;
  signal?: AbortSignal | undefined;
}

export type Call<M extends DescMethod> = ClientDuplexStream<MessageInitShape<M["input"]>, MessageShape<M["output"]>>;

/** One request, or several as they are given. */
export type Requests<M extends DescMethod> = MessageInitShape<M["input"]> | AsyncIterable<MessageInitShape<M["input"]>>;

/** One channel, opened with the first call. */
export class Transport {
  private channel: Client | undefined;
  private key: string | undefined;
  private isClosed = false;
  private readonly atWork = new Set<ClientDuplexStream<never, unknown>>();

  constructor(
    readonly target: string,
    private readonly apiKey: string | undefined,
    private readonly tls: Tls | boolean | undefined,
  ) {}

  close(): void {
    this.isClosed = true;
    for (const call of this.atWork) {
      call.destroy(closed()); // gRPC's close lets calls at work go on, and the process with them
      call.cancel();
    }
    this.atWork.clear();
    this.channel?.close();
    this.channel = undefined;
  }

  /** Begins a call; it ends with its deadline, and when the signal comes. */
  open<M extends DescMethod>(method: M, bounds: Bounds): Call<M> {
    this.key ??= findKey(this.apiKey, this.target);
    const headers = new Metadata();
    headers.set("authorization", `Bearer ${this.key}`);
    return this.openRaw(
      `/${method.parent.typeName}/${method.name}`,
      (request) => Buffer.from(toBinary(method.input, create(method.input, request))),
      (data) => fromBinary(method.output, data),
      headers,
      bounds,
    ) as Call<M>;
  }

  /** Begins a call of a method by its path. */
  openRaw<Request, Response>(
    path: string,
    serialize: (request: Request) => Buffer,
    deserialize: (data: Buffer) => Response,
    headers: Metadata,
    { deadline, signal }: Bounds,
  ): ClientDuplexStream<Request, Response> {
    const options = deadline === undefined ? {} : { deadline };
    const call = this.connect().makeBidiStreamRequest(path, serialize, deserialize, headers, options);
    call.on("error", () => {}); // whoever reads gets it; once nobody reads any more, nobody needs it
    this.atWork.add(call as ClientDuplexStream<never, unknown>);
    call.once("close", () => this.atWork.delete(call as ClientDuplexStream<never, unknown>));
    if (signal?.aborted) call.cancel();
    call.once("close", onAbort(signal, () => call.cancel()));
    return call;
  }

  /** The answers to one request, or to several, as they come. Leaving the loop early cancels the call. */
  async *stream<M extends DescMethod>(
    method: M,
    request: Requests<M>,
    bounds: Bounds,
  ): AsyncGenerator<MessageShape<M["output"]>, void, undefined> {
    const call = this.open(method, bounds);
    if (!isSeveral(request)) {
      call.end(request);
      yield* read(call, bounds.signal);
      return;
    }
    const over = new AbortController();
    const sending = send(call, request, over.signal);
    try {
      yield* read(call, bounds.signal);
    } catch (error) {
      throw (await sending) ?? error;
    } finally {
      over.abort();
      await sending;
    }
  }

  /** The one answer to one request, or to several. */
  async unary<M extends DescMethod>(
    method: M,
    request: Requests<M>,
    bounds: Bounds,
  ): Promise<MessageShape<M["output"]>> {
    let answer: MessageShape<M["output"]> | undefined;
    let count = 0;
    for await (answer of this.stream(method, request, bounds)) count++;
    if (answer === undefined || count !== 1) {
      throw new InternalError(`one request got ${count} answers`, { reason: "INCOMPLETE_ANSWER" });
    }
    return answer;
  }

  private connect(): Client {
    if (this.isClosed) throw closed();
    this.channel ??= new Client(this.target, channelCredentials(this.target, this.tls), {
      "grpc.max_receive_message_length": -1, // a page of 1,000 long turns passes gRPC's 4 MiB; the server bounds it
      "grpc.max_send_message_length": -1, // the server's limit decides, and says so
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 2000,
      "grpc.enable_http_proxy": isLocal(this.target) ? 0 : 1,
    });
    return this.channel;
  }
}

function closed(): CancelledError {
  return new CancelledError("the client is closed", { reason: "CLOSED" });
}

function isSeveral<M extends DescMethod>(request: Requests<M>): request is AsyncIterable<MessageInitShape<M["input"]>> {
  return Symbol.asyncIterator in request;
}

/**
 * Sends requests as they are given, no faster than they leave, and closes our half of the call. What giving them fails with ends the
 * call, and is returned; what the server ends it with comes by reading.
 */
async function send<Request>(
  call: ClientDuplexStream<Request, unknown>,
  requests: AsyncIterable<Request>,
  over: AbortSignal,
): Promise<unknown> {
  try {
    for await (const request of requests) {
      if (over.aborted) return undefined;
      if (!call.write(request)) await drained(call, over);
    }
    call.end();
    return undefined;
  } catch (error) {
    call.cancel();
    return error;
  }
}

/** Waits until there is room to write, or the call is over. */
export async function drained(call: ClientDuplexStream<never, unknown> | ClientDuplexStream<unknown, unknown>, over: AbortSignal) {
  await new Promise<void>((resolve) => {
    const end = () => {
      for (const event of ["drain", "error", "close"]) call.off(event, end);
      unhear();
      resolve();
    };
    for (const event of ["drain", "error", "close"]) call.on(event, end);
    const unhear = onAbort(over, end);
    if (over.aborted || call.destroyed) end();
  });
}

/** What comes back on a call, with typed errors; however the loop is left, the call is over. */
export async function* read<Response>(
  call: ClientDuplexStream<never, Response> | ClientDuplexStream<unknown, Response>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Response, void, undefined> {
  try {
    for await (const response of call) yield response as Response;
  } catch (error) {
    throw toError(error, signal?.aborted ? signal.reason : undefined);
  } finally {
    call.cancel();
  }
}
