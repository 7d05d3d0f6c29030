/** Where the server is, and how a call proves who makes it. */
import { readFileSync } from "node:fs";
import { homedir, platform } from "node:os";
import { join } from "node:path";

import { ChannelCredentials, credentials } from "@grpc/grpc-js";

import { InvalidArgumentError, UnauthenticatedError } from "./errors.js";

const DEFAULT_TARGET = "localhost:7420";
const KEY_FILE_NAME = "admin.key";

type Environment = Record<string, string | undefined>;

/** TLS as the client sees it. PEM; left out: the system's roots, no client certificate. */
export interface Tls {
  rootCertificates?: Buffer;
  privateKey?: Buffer;
  certificateChain?: Buffer;
}

/** The option, else LIGHTMEM_TARGET, else the local server's default. A URL, which gRPC would take for a host's name, is refused. */
export function findTarget(target: string | undefined, environment: Environment = process.env): string {
  const found = target || environment["LIGHTMEM_TARGET"] || DEFAULT_TARGET;
  if (/^https?:\/\//.test(found)) {
    throw new InvalidArgumentError(`target: takes HOST:PORT, not ${found}`, { reason: "MALFORMED", field: "target" });
  }
  return found;
}

/** Whether the target is this machine by its name: loopback, or a Unix socket. */
export function isLocal(target: string): boolean {
  if (/^unix(-abstract)?:/.test(target)) return true;
  const address = target.replace(/^dns:.*\/\/\//, "").replace(/^(dns|ipv4|ipv6):/, "");
  const host = address.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/**
 * The option, else LIGHTMEM_API_KEY, else, for a server on this machine, the key that its first start left. That one is never sent to
 * another machine.
 */
export function findKey(given: string | undefined, target: string, environment: Environment = process.env): string {
  let key = given || environment["LIGHTMEM_API_KEY"];
  if (!key) {
    if (!isLocal(target)) {
      throw new UnauthenticatedError(`no key for ${target}: give apiKey, or set LIGHTMEM_API_KEY`, { reason: "KEY_MISSING" });
    }
    key = readKeyFile(keyFile(environment));
  }
  key = key.trim();
  if (!/^[ -~]*$/.test(key)) {
    throw new InvalidArgumentError("the key has characters that no key has", { reason: "KEY_INVALID", field: "api_key" });
  }
  return key;
}

function readKeyFile(path: string): string {
  let key = "";
  let cause: unknown;
  try {
    key = readFileSync(path, "utf8").trim();
  } catch (error) {
    cause = error;
  }
  if (!key) {
    const message = `no key: give apiKey, set LIGHTMEM_API_KEY, or start a server on this machine, which makes ${path}`;
    throw new UnauthenticatedError(message, { reason: "KEY_MISSING", cause });
  }
  return key;
}

/** Where the first start of a server on this machine leaves its admin key: as the server, by the system's customs. */
export function keyFile(environment: Environment = process.env): string {
  const folder = environment["LIGHTMEM_DATA_DIR"];
  if (folder) return join(folder.replace(/^~(?=$|[/\\])/, homedir()), KEY_FILE_NAME);
  return join(dataFolder(environment), "lightmem", KEY_FILE_NAME);
}

function dataFolder(environment: Environment): string {
  if (platform() === "win32") return environment["LOCALAPPDATA"] ?? join(homedir(), "AppData", "Local");
  if (platform() === "darwin") return join(homedir(), "Library", "Application Support");
  return environment["XDG_DATA_HOME"]?.trim() || join(homedir(), ".local", "share");
}

/** Undecided, only this machine is spoken to in plain text, so that a key never crosses a network in the clear. */
export function channelCredentials(target: string, tls: Tls | boolean | undefined): ChannelCredentials {
  const wanted = tls ?? !isLocal(target);
  if (wanted === false) return credentials.createInsecure();
  const { rootCertificates = null, privateKey = null, certificateChain = null } = wanted === true ? {} : wanted;
  return credentials.createSsl(rootCertificates, privateKey, certificateChain);
}
