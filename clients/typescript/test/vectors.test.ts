/** The contract vectors of all clients, played to a real server; their README describes the format. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { type DescMethod, fromBinary, fromJson, type JsonValue, toBinary, toJson } from "@bufbuild/protobuf";
import { Metadata, status } from "@grpc/grpc-js";

import { findKey, findTarget } from "../src/connection.js";
import { AdminService } from "../src/gen/lightmem/v1/admin_service_pb.js";
import { MemoryService } from "../src/gen/lightmem/v1/memory_service_pb.js";
import { LightMemError } from "../src/index.js";
import { read, Transport } from "../src/transport.js";

const FOLDER = fileURLToPath(new URL("../../../../tests/contract/vectors", import.meta.url));
const METHODS = new Map<string, DescMethod>(
  [MemoryService, AdminService].flatMap((service) =>
    service.methods.map((method): [string, DescMethod] => [`${service.typeName}/${method.name}`, method]),
  ),
);

type Json = JsonValue | undefined;
type JsonObject = { [name: string]: JsonValue };

interface Step {
  call: string;
  requests: JsonObject[];
  key?: JsonValue;
  authorization?: string;
  timeoutSeconds?: number;
  responses?: JsonValue[];
  last?: JsonValue;
  error?: JsonObject;
}

interface File {
  format: number;
  vectors: { name: string; steps: Step[] }[];
}

const KINDS: Record<string, (value: Json) => boolean> = {
  string: (value) => typeof value === "string",
  number: (value) => typeof value === "number" || isLike(value, /^-?\d+$/), // 64-bit ones are text
  time: (value) => isLike(value, /^\d{4}-\d\d-\d\dT[0-9:.]+Z$/),
  duration: (value) => isLike(value, /^\d+(\.\d+)?s$/),
  list: (value) => Array.isArray(value),
  object: (value) => isObject(value),
};

const isLike = (value: Json, pattern: RegExp) => typeof value === "string" && pattern.test(value);
const isObject = (value: Json): value is JsonObject => typeof value === "object" && value !== null && !Array.isArray(value);

/** What one playing of one vector knows: values of its own, and what it captured. */
class Names {
  private readonly run = randomBytes(6).toString("hex");
  private readonly captured = new Map<string, JsonValue>();

  /** A value with its placeholders filled in. */
  resolve(value: JsonValue): JsonValue {
    if (Array.isArray(value)) return value.flatMap((item) => this.resolveItem(item));
    if (!isObject(value)) return value;
    if ("$fresh" in value) return `${value["$fresh"]}-${this.run}`;
    if ("$ref" in value) return this.captured.get(String(value["$ref"])) ?? null;
    if (typeof value["$repeat"] === "string") return value["$repeat"].repeat(Number(value["count"]));
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.resolve(item)]));
  }

  private resolveItem(item: JsonValue): JsonValue[] {
    if (isObject(item) && "$repeat" in item && typeof item["$repeat"] !== "string") {
      return Array<JsonValue>(Number(item["count"])).fill(this.resolve(item["$repeat"] as JsonValue));
    }
    return [this.resolve(item)];
  }

  /** Holds an answer against what is expected; fields that are not named are not judged. */
  match(expected: JsonValue, actual: Json, path: string): void {
    if (Array.isArray(expected)) {
      assert.ok(Array.isArray(actual) && actual.length === expected.length, `${path}: not ${expected.length} items`);
      return expected.forEach((item, i) => this.match(item, actual[i], `${path}[${i}]`));
    }
    if (!isObject(expected)) return assert.strictEqual(actual, expected, `${path}: ${actual} instead of ${expected}`);
    if ("$capture" in expected) {
      assert.ok(actual !== undefined && actual !== "", `${path}: nothing to capture`);
      this.captured.set(String(expected["$capture"]), actual);
    } else if ("$any" in expected) {
      const kind = String(expected["$any"]);
      assert.ok(KINDS[kind]?.(actual), `${path}: ${JSON.stringify(actual)} is no ${kind}`);
    } else if ("$fresh" in expected || "$ref" in expected) {
      this.match(this.resolve(expected), actual, path);
    } else {
      assert.ok(isObject(actual), `${path}: ${JSON.stringify(actual)} is no object`);
      for (const [key, item] of Object.entries(expected)) this.match(item, actual[key], `${path}.${key}`);
    }
  }

  async play(transport: Transport, step: Step): Promise<void> {
    const { responses, error } = await this.send(transport, step);
    if (error && !step.error) throw error;
    if (step.error) {
      assert.ok(error, `succeeded instead of failing with ${JSON.stringify(step.error)}`);
      const field = error.field === undefined ? {} : { field: error.field };
      this.match(step.error, { status: status[error.status], reason: error.reason, ...field }, "$error");
    }
    if (step.last !== undefined) this.match(step.last, responses.at(-1), "$last");
    else this.match(step.responses ?? [], responses, "$responses");
  }

  private async send(transport: Transport, step: Step): Promise<{ responses: JsonValue[]; error?: LightMemError }> {
    const method = METHODS.get(step.call);
    assert.ok(method, `no method ${step.call}`);
    const call = transport.openRaw<Buffer, JsonValue>(
      `/${step.call}`,
      (request) => request,
      (data) => toJson(method.output, fromBinary(method.output, data), { alwaysEmitImplicit: true }),
      this.headers(step),
      { deadline: Date.now() + (step.timeoutSeconds ?? 60) * 1000 },
    );
    for (const request of step.requests) call.write(this.encode(method, request));
    call.end();
    const responses: JsonValue[] = [];
    try {
      for await (const response of read(call as Parameters<typeof read<JsonValue>>[0], undefined)) responses.push(response);
    } catch (error) {
      if (error instanceof LightMemError) return { responses, error };
      throw error;
    }
    return { responses };
  }

  private encode(method: DescMethod, request: JsonObject): Buffer {
    if (typeof request["$raw"] === "string") return Buffer.from(request["$raw"], "base64");
    return Buffer.from(toBinary(method.input, fromJson(method.input, this.resolve(request))));
  }

  private headers(step: Step): Metadata {
    const headers = new Metadata();
    const key = step.key === undefined ? findKey(undefined, findTarget(undefined)) : this.resolve(step.key);
    const header = step.authorization ?? `Bearer ${key}`;
    if (header) headers.set("authorization", header);
    return headers;
  }
}

const skip = process.env["LIGHTMEM_TARGET"] ? false : "LIGHTMEM_TARGET names no server; `make test-clients` starts one";

describe("contract vectors", { skip }, () => {
  const transport = new Transport(findTarget(undefined), undefined, undefined);
  after(() => transport.close());
  for (const name of readdirSync(FOLDER).filter((name) => name.endsWith(".json"))) {
    const file = JSON.parse(readFileSync(join(FOLDER, name), "utf8")) as File;
    assert.equal(file.format, 1);
    for (const vector of file.vectors) {
      it(`${basename(name, ".json")}: ${vector.name}`, async () => {
        const names = new Names();
        for (const [i, step] of vector.steps.entries()) {
          try {
            await names.play(transport, step);
          } catch (error) {
            throw new Error(`step ${i + 1}, ${step.call}: ${error}`, { cause: error });
          }
        }
      });
    }
  }
});
