import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";

import { status } from "@grpc/grpc-js";

import { findKey, findTarget, isLocal } from "../src/connection.js";
import {
  CancelledError,
  type Client,
  FailedPreconditionError,
  InternalError,
  InvalidArgumentError,
  LightMemError,
  meta,
  not,
  NotFoundError,
  OverloadedError,
  UnauthenticatedError,
  UnavailableError,
} from "../src/index.js";
import { type Failure, Peer, UNAVAILABLE } from "./peer.js";

let peer: Peer;
let client: Client;

beforeEach(async () => {
  peer = await Peer.start();
  client = peer.client();
});
afterEach(() => {
  client.close();
  peer.stop();
});

const LOCAL = ["localhost:7420", "127.0.0.1:7420", "127.8.8.8:1", "[::1]:7420", "dns:///localhost:7420", "localhost", "unix:/run/lm"];
const REMOTE = ["10.0.0.7:7420", "memory.example.org:7420", "localhost.example.org:1", "dns://localhost/memory.example.org:7420"];

it("takes only this machine for local", () => {
  for (const target of LOCAL) assert.equal(isLocal(target), true, target);
  for (const target of REMOTE) assert.equal(isLocal(target), false, target);
});

it("takes a host and a port for a target, not a URL", () => {
  assert.equal(findTarget(undefined, { LIGHTMEM_TARGET: "b:2" }), "b:2");
  assert.throws(() => findTarget("http://a:1", {}), { name: InvalidArgumentError.name, reason: "MALFORMED" });
});

it("takes the key from the option, then the environment, then the file, which never goes to another machine", () => {
  const folder = mkdtempSync(join(tmpdir(), "lightmem-"));
  writeFileSync(join(folder, "admin.key"), "lm_file\n");
  const environment = { LIGHTMEM_DATA_DIR: folder, LIGHTMEM_API_KEY: "lm_env" };
  assert.equal(findKey("lm_option", "localhost:1", environment), "lm_option");
  assert.equal(findKey(undefined, "localhost:1", environment), "lm_env");
  assert.equal(findKey(undefined, "localhost:1", { LIGHTMEM_DATA_DIR: folder }), "lm_file");
  const missing = { name: UnauthenticatedError.name, reason: "KEY_MISSING" };
  assert.throws(() => findKey(undefined, "memory.example.org:1", { LIGHTMEM_DATA_DIR: folder }), missing);
  assert.throws(() => findKey(undefined, "localhost:1", { LIGHTMEM_DATA_DIR: join(folder, "none") }), missing);
  assert.throws(() => findKey("lm_ü", "localhost:1", {}), InvalidArgumentError);
});

it("refuses what JavaScript may give in place of a value, and names the field", async () => {
  const given = {
    "turns, WRONG_TYPE": () => client.write(42 as never),
    "turns , WRONG_TYPE": () => client.write(undefined as never),
    "turns  , WRONG_TYPE": () => client.write({} as never),
    "turns[0], WRONG_TYPE": () => client.write([null] as never),
    "turns[0].text, WRONG_TYPE": () => client.write({ text: 3 } as never),
    "turns[0].speaker, MALFORMED": () => client.write({ text: "x", speaker: "\ud83d" }),
    "turns[0].occurred_at, WRONG_TYPE": () => client.write({ text: "x", occurredAt: "2024-05-08" } as never),
    "query, WRONG_TYPE": () => client.retrieve(undefined as never),
    "hypothetical_queries, OUT_OF_RANGE": () => client.retrieve("x", { hypotheticalQueries: -1 }),
    "max_turns, OUT_OF_RANGE": () => client.getContext("s", { maxTurns: 1.5 }),
    "page_size, OUT_OF_RANGE": () => client.list({ pageSize: 0 }).next(),
    "page_size , OUT_OF_RANGE": () => client.list({ pageSize: -1 }).next(),
    "expected_version, OUT_OF_RANGE": () => client.update("1", { isPinned: true }, { expectedVersion: -1 }),
    "expected_version , OUT_OF_RANGE": () => client.update("1", { isPinned: true }, { expectedVersion: 1.5 }),
    "timeout_seconds, OUT_OF_RANGE": () => client.get("1", { timeoutSeconds: NaN }),
    "max_in_flight, OUT_OF_RANGE": async () => client.openWriter({ maxInFlight: 0 }),
  };
  for (const [name, call] of Object.entries(given)) {
    const [field, reason] = name.split(",").map((part) => part.trim());
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof InvalidArgumentError, `${name}: ${String(error)}`);
      assert.deepEqual([error.field, error.reason], [field, reason]);
      return true;
    });
  }
  assert.equal(peer.calls, 0);
});

it("waits for ever when told to", async () => {
  assert.equal((await client.get("1", { timeoutSeconds: Infinity })).id, "1");
  const writer = client.openWriter({ timeoutSeconds: 1e9 });
  await writer.send("x");
  await writer.close();
});

it("ends calls at work and idle writers when it is closed", async () => {
  const idle = client.openWriter();
  await (await idle.send("0")).result;
  let arrived: () => void = () => {};
  const atWork = new Promise<void>((resolve) => (arrived = resolve));
  peer.holds = new Promise(() => {});
  peer.arrived = arrived;
  const pending = await client.openWriter().send("1");
  await atWork;
  client.close();
  client.close();
  const closed = { name: CancelledError.name, reason: "CLOSED" };
  await assert.rejects(pending.result, closed);
  await assert.rejects(client.get("1"), closed);
  await assert.rejects((await idle.send("2")).result, closed);
});

it("tells errors apart by class, status and reason", async () => {
  peer.failures.push({ code: status.FAILED_PRECONDITION, reason: "NO_WRITER" });
  await assert.rejects(client.retrieve("x"), (error) => {
    assert.ok(error instanceof FailedPreconditionError && error instanceof LightMemError);
    assert.equal(error.status, status.FAILED_PRECONDITION);
    assert.equal(error.reason, "NO_WRITER");
    return true;
  });
});

describe("what may be repeated is", () => {
  const calls: Record<string, (client: Client) => Promise<unknown>> = {
    write: (client) => client.write("x"),
    retrieve: (client) => client.retrieve("x"),
    "retrieve as a stream": async (client) => {
      for await (const part of client.retrieveStream("x")) assert.ok(part.part.case);
    },
    get: (client) => client.get("1"),
    "update at a version": (client) => client.update("1", { isPinned: true }, { expectedVersion: 1 }),
  };
  for (const [name, call] of Object.entries(calls)) {
    it(name, async () => {
      peer.failures.push(UNAVAILABLE, { code: status.RESOURCE_EXHAUSTED, retryAfterSeconds: 0.001 });
      await call(client);
      assert.equal(peer.calls, 3);
    });
  }
});

describe("what may not be repeated is not", () => {
  const get = (client: Client) => client.get("1");
  const cases: Record<string, [(client: Client) => Promise<unknown>, Failure]> = {
    "a key": [(client) => client.createKey(), UNAVAILABLE],
    "an erasure": [(client) => client.eraseUser("ann"), UNAVAILABLE],
    "an update": [(client) => client.update("1", { isPinned: true }), UNAVAILABLE],
    "a limit that stays": [get, { code: status.RESOURCE_EXHAUSTED }],
    "what is not there": [get, { code: status.NOT_FOUND }],
    "a deadline that has passed": [get, { code: status.DEADLINE_EXCEEDED }],
  };
  for (const [name, [call, failure]] of Object.entries(cases)) {
    it(name, async () => {
      peer.failures.push(failure);
      await assert.rejects(call(client), { status: failure.code });
      assert.equal(peer.calls, 1);
    });
  }
});

it("bounds attempts and time", async () => {
  peer.failures.push(...Array<Failure>(5).fill(UNAVAILABLE));
  await assert.rejects(client.get("1"), UnavailableError);
  assert.equal(peer.calls, 4);
  peer.failures = [{ code: status.RESOURCE_EXHAUSTED, retryAfterSeconds: 3600 }];
  await assert.rejects(client.get("1"), OverloadedError);
  assert.equal(peer.calls, 5, "the wait asked for would outlast the call");
});

it("says that a call was cancelled, and by what", async () => {
  const signal = AbortSignal.abort(new Error("enough"));
  await assert.rejects(client.get("1", { signal }), (error) => {
    assert.ok(error instanceof CancelledError);
    assert.match(String(error.cause), /enough/);
    return true;
  });
});

it("takes a delete whose answer was lost for done", async () => {
  peer.failures.push(UNAVAILABLE);
  await client.delete("1");
  await assert.rejects(client.delete("1"), NotFoundError);
});

it("takes an answer that is cut off for none", async () => {
  await assert.rejects(client.retrieve("cut off"), InternalError);
});

it("refuses before it sends what cannot be sent", async () => {
  const calls: (() => Promise<unknown>)[] = [
    () => client.write([]),
    () => client.write("x", { userId: "" }),
    () => client.write({ text: "x", metadata: { a: [1] as unknown as string } }),
    () => client.write({ text: "x", metadata: { a: Number.NaN } }),
    () => client.write({ text: "x", occurredAt: new Date("never") }),
    () => client.write("\ud800"),
    () => client.retrieve("x", { maxMemories: 0 }),
    () => client.retrieve("x", { deadlineSeconds: 0 }),
    async () => client.retrieve("x", { filter: not(meta("a").eq(null as unknown as string)) }),
    () => client.update("1", {}),
  ];
  for (const call of calls) await assert.rejects(call(), InvalidArgumentError, String(call));
  assert.equal(peer.calls, 0);
});

it("is closed after close", async () => {
  client.close();
  await assert.rejects(client.get("1"), CancelledError);
});
