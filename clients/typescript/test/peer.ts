/** A small server that speaks the protocol over real gRPC, and fails on request. No part of LightMem is in it. */
import { create, type DescMessage, type DescService, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

import { anyPack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";

import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { AdminService } from "../src/gen/lightmem/v1/admin_service_pb.js";
import type { DeleteMemoryRequest, GetMemoryRequest, RetrieveRequest } from "../src/gen/lightmem/v1/memory_service_pb.js";
import { MemoryService, type WriteRequest } from "../src/gen/lightmem/v1/memory_service_pb.js";
import { Client, type ClientOptions } from "../src/index.js";

export const KEY = "lm_peer_secret";

/** What a call ends with. */
export interface Failure {
  code: grpc.status;
  reason?: string;
  retryAfterSeconds?: number;
}

export const UNAVAILABLE: Failure = { code: grpc.status.UNAVAILABLE, reason: "STARTING" };

type Duplex = grpc.ServerDuplexStream<Message, object>;
type Stream = grpc.ServerWritableStream<Message, object>;
type Unary = grpc.ServerUnaryCall<Message, object>;

export class Peer {
  target = "";
  calls = 0;
  texts: string[] = [];
  failures: Failure[] = [];
  /** Writes are answered only after it has resolved. */
  holds: Promise<void> = Promise.resolve();
  /** Called for each write request that comes. */
  arrived: () => void = () => {};
  private readonly written = new Map<string, string[]>();
  private readonly gone = new Set<string>();
  private server = new grpc.Server();

  private constructor(private readonly credentials: grpc.ServerCredentials) {}

  static async start(credentials = grpc.ServerCredentials.createInsecure()): Promise<Peer> {
    const peer = new Peer(credentials);
    await peer.listen("127.0.0.1:0");
    return peer;
  }

  async listen(address: string): Promise<void> {
    this.server = new grpc.Server();
    this.server.addService(definition(MemoryService), {
      write: (call: Duplex) => this.write(call),
      retrieve: (call: Stream) => this.retrieve(call),
      getMemory: this.unary((request: GetMemoryRequest) => ({ memory: { id: request.memoryId } })),
      updateMemory: this.unary(() => ({ memory: {} })),
      deleteMemory: this.unary((request: DeleteMemoryRequest) => this.delete(request.memoryId), true),
    });
    this.server.addService(definition(AdminService), { createKey: this.unary(() => ({})), eraseUser: this.unary(() => ({})) });
    const port = await new Promise<number>((resolve, reject) =>
      this.server.bindAsync(address, this.credentials, (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
    this.target = `127.0.0.1:${port}`;
  }

  stop(): void {
    this.server.forceShutdown();
  }

  client(options: ClientOptions = {}): Client {
    const retry = { maxAttempts: 4, initialSeconds: 0.01, maxSeconds: 0.05 };
    return new Client({ target: this.target, apiKey: KEY, userId: "ann", retry, ...options });
  }

  /** Counts the call, checks the key, and gives what it ends with. */
  private begin(metadata: grpc.Metadata): Partial<grpc.StatusObject> | undefined {
    this.calls++;
    if (metadata.get("authorization")[0] !== `Bearer ${KEY}`) {
      return toStatus({ code: grpc.status.UNAUTHENTICATED, reason: "KEY_INVALID" });
    }
    const failure = this.failures.shift();
    return failure && toStatus(failure);
  }

  /** By events: an async iterator over a server's stream destroys it with the last request, before the answers are sent. */
  private write(call: Duplex): void {
    const failure = this.begin(call.metadata);
    if (failure) return void call.emit("error", failure);
    let work = Promise.resolve();
    let isOver = false;
    call.on("error", () => {});
    call.on("data", (request: WriteRequest) => {
      this.arrived();
      work = work.then(async () => {
        await this.holds;
        if (isOver) return;
        isOver = request.turns.some((turn) => turn.text === "refuse me");
        if (isOver) call.emit("error", toStatus({ code: grpc.status.INVALID_ARGUMENT, reason: "REFUSED" }));
        else call.write(this.store(request));
      });
    });
    call.on("end", () => void work.then(() => isOver || call.end()));
  }

  private store({ requestId, turns }: WriteRequest): object {
    const known = this.written.get(requestId);
    if (known) return { requestId, memoryIds: known, isReplay: true };
    const memoryIds = turns.map((turn) => String(this.texts.push(turn.text)));
    this.written.set(requestId, memoryIds);
    return { requestId, memoryIds };
  }

  private retrieve(call: Stream): void {
    const failure = this.begin(call.metadata);
    if (failure) return void call.emit("error", failure);
    const { query } = call.request as RetrieveRequest;
    call.write({ part: { case: "memories", value: { packedContext: query } } });
    if (query !== "cut off") call.write({ part: { case: "trace", value: {} } });
    call.end();
  }

  private delete(memoryId: string): object | Partial<grpc.StatusObject> {
    if (this.gone.has(memoryId)) return toStatus({ code: grpc.status.NOT_FOUND, reason: "NOT_FOUND" });
    this.gone.add(memoryId);
    return {};
  }

  /** `isLate`: it takes effect even where it is told to fail, as when the answer is lost on the way. */
  private unary<R extends Message>(answer: (request: R) => object, isLate = false) {
    return (call: Unary, callback: grpc.sendUnaryData<object>) => {
      const failure = this.begin(call.metadata);
      const given = !failure || isLate ? answer(call.request as R) : {};
      const ending = failure ?? ("code" in given ? (given as Partial<grpc.StatusObject>) : undefined);
      if (ending) callback(ending);
      else callback(null, given);
    };
  }
}

function toStatus({ code, reason = "", retryAfterSeconds }: Failure): Partial<grpc.StatusObject> {
  const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason }))];
  if (retryAfterSeconds !== undefined) {
    const retryDelay = { seconds: BigInt(Math.floor(retryAfterSeconds)), nanos: Math.round((retryAfterSeconds % 1) * 1e9) };
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  const metadata = new grpc.Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, details }))));
  return { code, details: "as asked", metadata };
}

/** A line to a server that can be cut. */
export class Line {
  private readonly sockets = new Set<Socket>();
  private readonly server = createServer((near) => {
    const far = connect(this.port, "127.0.0.1");
    for (const [socket, other] of [[near, far], [far, near]] as const) {
      this.sockets.add(socket);
      socket.on("error", () => {}).on("close", () => other.destroy());
      socket.pipe(other);
    }
  });

  private constructor(private readonly port: number) {}

  static async to(target: string): Promise<Line> {
    const line = new Line(Number(target.split(":")[1]));
    line.server.listen(0, "127.0.0.1");
    await once(line.server, "listening");
    return line;
  }

  get target(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Every connection breaks; new ones are taken. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
    this.sockets.clear();
  }

  close(): void {
    this.cut();
    this.server.close();
  }
}

/** What grpc-js wants to know of a service. */
function definition(service: DescService): grpc.ServiceDefinition {
  return Object.fromEntries(
    service.methods.map((method) => [
      method.localName,
      {
        path: `/${service.typeName}/${method.name}`,
        requestStream: method.methodKind === "bidi_streaming" || method.methodKind === "client_streaming",
        responseStream: method.methodKind === "bidi_streaming" || method.methodKind === "server_streaming",
        requestSerialize: serialize(method.input),
        requestDeserialize: deserialize(method.input),
        responseSerialize: serialize(method.output),
        responseDeserialize: deserialize(method.output),
      },
    ]),
  );
}

const serialize = (type: DescMessage) => (value: object) => Buffer.from(toBinary(type, create(type, value as Record<string, unknown>)));
const deserialize = (type: DescMessage) => (data: Buffer) => fromBinary(type, data);
