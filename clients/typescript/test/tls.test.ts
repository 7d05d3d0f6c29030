/** TLS with a private authority, made for the test by openssl, which Node.js cannot do itself. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";

import { ServerCredentials } from "@grpc/grpc-js";

import { type Client, type Tls, UnavailableError } from "../src/index.js";
import { Peer } from "./peer.js";

const skip = spawnSync("openssl", ["version"]).status === 0 ? false : "openssl is not installed; it makes the certificates";

interface Issued {
  key: Buffer;
  certificate: Buffer;
}

/** A private authority, and certificates of it for this machine. */
class Authority {
  private readonly folder = mkdtempSync(join(tmpdir(), "lightmem-tls-"));

  constructor(name: string) {
    this.openssl("req", "-x509", ...this.newKey("ca"), "-subj", `/CN=${name}`, "-days", "2", "-out", "ca.pem");
  }

  get root(): Buffer {
    return this.read("ca.pem");
  }

  issue(name: string): Issued {
    writeFileSync(join(this.folder, "names"), "subjectAltName=DNS:localhost,IP:127.0.0.1");
    this.openssl("req", ...this.newKey(name), "-subj", `/CN=${name}`, "-out", `${name}.csr`);
    const signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"];
    this.openssl("x509", "-req", "-in", `${name}.csr`, ...signing, "-out", `${name}.pem`);
    return { key: this.read(`${name}.key`), certificate: this.read(`${name}.pem`) };
  }

  private newKey(name: string): string[] {
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`];
  }

  private read(name: string): Buffer {
    return readFileSync(join(this.folder, name));
  }

  private openssl(...command: string[]): void {
    execFileSync("openssl", command, { cwd: this.folder, stdio: "ignore" });
  }
}

describe("TLS", { skip }, () => {
  const open: (() => void)[] = [];
  after(() => open.forEach((close) => close()));

  /** A server with a certificate of `ours`; with `clients` it asks for one of theirs. */
  async function start(ours: Authority, clients?: Authority): Promise<Peer> {
    const { key, certificate } = ours.issue("server");
    const pairs = [{ private_key: key, cert_chain: certificate }];
    const peer = await Peer.start(ServerCredentials.createSsl(clients?.root ?? null, pairs, clients !== undefined));
    open.push(() => peer.stop());
    return peer;
  }

  function connect(peer: Peer, tls: Tls | boolean): Client {
    const client = peer.client({ tls });
    open.push(() => client.close());
    return client;
  }

  async function works(peer: Peer, tls: Tls): Promise<void> {
    await connect(peer, tls).write("hello");
    assert.deepEqual(peer.texts, ["hello"]);
  }

  /** Nothing was sent, and the error is typed and says what is wrong. */
  async function isRefused(peer: Peer, tls: Tls | boolean, says: RegExp): Promise<void> {
    const refusal = { name: UnavailableError.name, reason: "UNREACHABLE", message: says };
    await assert.rejects(connect(peer, tls).write("secret", { timeoutSeconds: 5 }), refusal);
    assert.equal(peer.calls, 0);
  }

  it("is spoken to a server of a private authority", async () => {
    const ours = new Authority("ours");
    await works(await start(ours), { rootCertificates: ours.root });
  });

  it("is not spoken to a server of an unknown authority", async () => {
    const peer = await start(new Authority("ours"));
    await isRefused(peer, { rootCertificates: new Authority("others").root }, /certificate/);
    await isRefused(peer, true, /certificate/);
  });

  it("is not replaced by plain text", async () => {
    await isRefused(await start(new Authority("ours")), false, /no server could be reached/);
  });

  it("shows a certificate to a server that asks for one", async () => {
    const [ours, clients] = [new Authority("ours"), new Authority("clients")];
    const { key, certificate } = clients.issue("client");
    await works(await start(ours, clients), { rootCertificates: ours.root, privateKey: key, certificateChain: certificate });
  });

  it("is refused by a server that asks for a certificate of others", async () => {
    const ours = new Authority("ours");
    const peer = await start(ours, new Authority("clients"));
    const { key, certificate } = new Authority("others").issue("client");
    await isRefused(peer, { rootCertificates: ours.root }, /no server could be reached/);
    await isRefused(
      peer,
      { rootCertificates: ours.root, privateKey: key, certificateChain: certificate },
      /no server could be reached/,
    );
  });
});
