import assert from "node:assert/strict";
import { afterEach, beforeEach, it } from "node:test";

import {
  AbortedError,
  CancelledError,
  type Client,
  DeadlineExceededError,
  InvalidArgumentError,
  WriteAbandonedError,
} from "../src/index.js";
import { Line, Peer } from "./peer.js";

let peer: Peer;
let client: Client;
let release: () => void;

beforeEach(async () => {
  peer = await Peer.start();
  client = peer.client();
});
afterEach(() => {
  release?.();
  client.close();
  peer.stop();
});

function hold(): void {
  peer.holds = new Promise((resolve) => {
    release = resolve;
  });
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => String(i));

it("sends in order, and close flushes", async () => {
  const writer = client.openWriter();
  for (const text of numbers(100)) await writer.send(text);
  await writer.close();
  assert.deepEqual(peer.texts, numbers(100));
  assert.equal(peer.calls, 1);
  await assert.rejects(writer.send("late"), CancelledError);
});

it("waits in send while the window is full", async () => {
  hold();
  const writer = client.openWriter({ maxInFlight: 2 });
  await writer.send("0");
  await writer.send("1");
  await assert.rejects(writer.send("2", { timeoutSeconds: 0.02 }), DeadlineExceededError);
  await assert.rejects(writer.send("2", { signal: AbortSignal.timeout(20) }), CancelledError);
  release();
  const { memoryIds } = await (await writer.send("3")).result;
  assert.equal(memoryIds.length, 1);
  assert.deepEqual(peer.texts, ["0", "1", "3"]);
  await writer.close();
});

it("takes a request id, and warns of nothing however often it waits for room", async () => {
  const warnings: Error[] = [];
  const note = (warning: Error) => warnings.push(warning);
  process.on("warning", note);
  const writer = client.openWriter({ maxInFlight: 400 });
  const first = await writer.send("0", { requestId: "r1" });
  await first.result;
  for (let i = 0; i < 400; i++) await writer.send("x".repeat(30_000) + i);
  await writer.close();
  const { signal } = new AbortController();
  await Promise.all(numbers(30).map((id) => client.get(id, { signal })));
  await new Promise(setImmediate);
  process.off("warning", note);
  assert.equal((await first.result).requestId, "r1");
  assert.deepEqual(warnings, []);
});

it("survives a lost connection and stores nothing twice", async (test) => {
  const line = await Line.to(peer.target);
  const distant = peer.client({ target: line.target });
  test.after(() => {
    distant.close();
    line.close();
  });
  hold();
  const writer = distant.openWriter();
  const arrival = new Promise<void>((resolve) => {
    peer.arrived = resolve;
  });
  for (const text of numbers(10)) await writer.send(text);
  await arrival;
  line.cut(); // with requests unanswered
  release();
  for (const text of numbers(20).slice(10)) await writer.send(text);
  await writer.close();
  assert.deepEqual(peer.texts, numbers(20));
  assert.ok(peer.calls > 1);
});

it("ends with a request that is refused", async () => {
  hold();
  const writer = client.openWriter();
  const [good, bad, behind] = [await writer.send("good"), await writer.send("refuse me"), await writer.send("behind")];
  release();
  await good.result;
  await assert.rejects(bad.result, InvalidArgumentError);
  await assert.rejects(behind.result, (error) => {
    assert.ok(error instanceof WriteAbandonedError && !(error instanceof AbortedError));
    assert.ok(error.cause instanceof InvalidArgumentError);
    return true;
  });
  await assert.rejects(writer.send("late"), WriteAbandonedError);
  await assert.rejects(writer.flush(), InvalidArgumentError);
  assert.deepEqual(peer.texts, ["good"]);
});

it("gives up when it is closed without time", async () => {
  hold();
  const writer = client.openWriter();
  const pending = await writer.send("0");
  await assert.rejects(writer.close({ timeoutSeconds: 0.02 }), DeadlineExceededError);
  await assert.rejects(pending.result, CancelledError);
});
