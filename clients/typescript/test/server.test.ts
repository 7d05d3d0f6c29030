/** The whole API on a real server, and what the README promises. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import {
  AbortedError,
  allOf,
  anyOf,
  Client,
  FailedPreconditionError,
  InvalidArgumentError,
  Kind,
  meta,
  metadataOf,
  not,
  NotFoundError,
  PermissionDeniedError,
  SelectorMode,
  Tier,
  timestampDate,
  UnauthenticatedError,
} from "../src/index.js";

const skip = process.env["LIGHTMEM_TARGET"] ? false : "LIGHTMEM_TARGET names no server; `make test-clients` starts one";

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe("on a real server", { skip }, () => {
  it("does everything that the API has", async (test) => {
    const userId = `ann-${randomBytes(6).toString("hex")}`;
    const client = new Client({ userId });
    test.after(() => client.close());
    await client.waitReady();
    assert.equal(await client.isHealthy(), true);

    const moved = {
      text: "I moved to Rome",
      speaker: "Ann",
      occurredAt: new Date("2024-05-08T09:00:00.5Z"),
      metadata: { topic: "home", year: 2024, share: 0.5, isDone: true, big: 2n ** 60n },
    };
    const stored = await client.write(moved, { sessionId: "monday", requestId: "r1" });
    const again = await client.write(moved, { sessionId: "monday", requestId: "r1" });
    assert.equal(again.isReplay, true);
    assert.deepEqual(again.memoryIds, stored.memoryIds);
    const writer = client.openWriter({ sessionId: "tuesday" });
    const cello = await writer.send(["My brother plays the cello"]);
    await writer.close();
    assert.equal((await cello.result).memoryIds.length, 1);

    const id = stored.memoryIds[0] ?? "";
    const answer = await client.retrieve("Where do I live?", {
      maxMemories: 1,
      maxCandidates: 8,
      maxTokens: 200,
      deadlineSeconds: 10,
      filter: anyOf(meta("topic").eq("home"), allOf(meta("year").gt(2025), not(meta("isDone").eq(true)))),
      askedAt: moved.occurredAt,
      timeZone: "Europe/Rome",
      selectorMode: SelectorMode.FULL,
      minRelevance: 0,
      includeCoarse: true,
      excludeContext: true,
      excludeShared: true,
      tokenizer: "builtin",
    });
    assert.deepEqual(answer.memories.map((hit) => hit.memory?.id), [id]);
    assert.equal(answer.coarse.length, 1);
    assert.deepEqual(answer.context, []);
    assert.match(answer.packedContext, /Rome/);
    assert.equal(answer.trace.matchedCount, 1n);
    const brief = await client.retrieve("Where do I live?", { excludeTrace: true });
    assert.equal(brief.memories[0]?.memory?.id, id);
    assert.throws(() => brief.trace, /excludeTrace/);
    const parts = await all(client.retrieveStream("Who plays?", { sessionId: "tuesday" }));
    assert.deepEqual(parts.map(({ part }) => part.case), ["context", "memories", "trace"]);
    for await (const { part } of client.retrieveStream("Who plays?")) {
      assert.ok(part.case);
      break; // ends the call
    }
    const explained = await client.explain("Where do I live?", id, { excludeContext: true, deadlineSeconds: 10 });
    assert.equal(explained.reachedStage, "returned");

    const memory = await client.get(id);
    assert.equal(memory.text, moved.text);
    assert.deepEqual(memory.occurredAt && timestampDate(memory.occurredAt), moved.occurredAt);
    assert.deepEqual(metadataOf(memory), moved.metadata);
    const changes = { isPinned: true, metadata: {}, expiresAt: null };
    const changed = await client.update(id, changes, { expectedVersion: memory.version });
    assert.deepEqual([changed.isPinned, changed.metadata, changed.version], [true, {}, 2n]);
    await assert.rejects(client.update(id, changes, { expectedVersion: 1 }), AbortedError);
    assert.deepEqual((await client.history(id)).map((change) => change.cause), ["write", "update"]);
    assert.deepEqual((await client.getContext("monday", { maxTurns: 5 })).map((turn) => turn.id), [id]);
    const filter = { kinds: [Kind.TURN], tiers: [Tier.MTM], sessionIds: ["monday", "tuesday"] };
    const texts = (await all(client.list({ pageSize: 1, filter }))).map((one) => one.text);
    assert.deepEqual(texts, ["My brother plays the cello", "I moved to Rome"]);

    const progress = await all(client.consolidate());
    assert.equal(progress.at(-1)?.stage, "done");
    await client.undoConsolidation(progress.at(-1)?.runId ?? "");
    await client.cancelConsolidation();
    const stats = await client.stats({ userId });
    assert.equal(stats.userCount, 1n);
    const { key, secret } = await client.createKey({ label: "typescript", userIds: [userId], expiresAt: new Date("2100-01-01") });
    const limited = new Client({ apiKey: secret, userId: "somebody else" });
    test.after(() => limited.close());
    await assert.rejects(limited.retrieve("x"), PermissionDeniedError);
    const rotated = await client.rotateKey(key?.keyId ?? "", { overlapSeconds: 3600 });
    assert.equal(rotated.replaced?.keyId, key?.keyId);
    const copied = (await all(client.backup(userId))).at(-1);
    assert.equal(copied?.stage, "done");
    assert.ok(copied?.sizeBytes);
    await assert.rejects(all(client.backup(userId)), FailedPreconditionError);
    assert.ok((await all(client.listKeys())).some((listed) => listed.keyId === key?.keyId));
    assert.ok((await client.revokeKey(key?.keyId ?? "")).revokedAt);
    await assert.rejects(limited.retrieve("x", { userId }), UnauthenticatedError);

    await client.delete(id);
    await assert.rejects(client.get(id), NotFoundError);
    const lines = (await all(client.exportUser(userId))).flatMap((part) => part.jsonLines);
    assert.ok((await client.eraseUser(userId)).memoryCount > 0n);
    const imported = await client.importUser(userId, lines);
    assert.ok(imported.importedCount > 0n);
    await assert.rejects(client.importUser(userId, ["no line of an export"]), InvalidArgumentError);
    const failing = (async function* () {
      yield lines[0] ?? "";
      throw new Error("the file broke off");
    })();
    await assert.rejects(client.importUser(userId, failing), /the file broke off/);
  });

  it("does what the README says", async () => {
    const package_ = fileURLToPath(new URL("../../", import.meta.url));
    const readme = readFileSync(`${package_}README.md`, "utf8");
    const programs = [...readme.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1] ?? "");
    assert.ok(programs.length > 1);
    for (const [i, program] of programs.entries()) {
      const path = `${package_}dist/readme-${i + 1}.mts`;
      const config = `${package_}dist/readme.json`;
      writeFileSync(path, program);
      const options = { outDir: ".", rootDir: ".", noEmit: false, incremental: false, tsBuildInfoFile: null, declaration: false };
      writeFileSync(config, JSON.stringify({ extends: "../tsconfig.json", compilerOptions: options, files: [`readme-${i + 1}.mts`], include: [] }));
      const run = promisify(execFile);
      await run(process.execPath, [`${package_}node_modules/typescript/bin/tsc`, "--project", config]);
      const { stdout } = await run(process.execPath, [path.replace(/mts$/, "mjs")]);
      for (const [, promise] of program.matchAll(/\/\/ prints: (.*)/g)) {
        assert.ok(promise && stdout.includes(promise), `${promise} is not in ${stdout}`);
      }
      for (const made of [path, config, path.replace(/mts$/, "mjs")]) rmSync(made, { force: true });
    }
  });
});
