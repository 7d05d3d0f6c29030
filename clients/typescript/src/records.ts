/** From JavaScript values to messages and back. What can be told to be wrong without the server is refused here. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";

import { InvalidArgumentError } from "./errors.js";
import { type Memory, type MetadataValue, MetadataValueSchema, type Role, type TurnSchema } from "./gen/lightmem/v1/memory_pb.js";

/** A metadata value. Whole numbers are stored as such, other numbers as doubles; the two compare. */
export type Scalar = string | number | bigint | boolean;

/** Metadata, key by key. */
export type Metadata = Readonly<Record<string, Scalar>>;

/** One turn of a conversation, to write. */
export interface Turn {
  /** What was said, verbatim; not only white space. */
  text: string;
  /** Who said it, a name or handle. */
  speaker?: string;
  /** Left out: a user. */
  role?: Role;
  /** When it was said. Left out: when the server receives it. */
  occurredAt?: Date;
  /** What to filter by later: at most 32 keys. */
  metadata?: Metadata;
  /** Never archived for lack of room. */
  isPinned?: boolean;
  /** From when on it is no longer returned. Left out: never. */
  expiresAt?: Date;
}

/** What `update` changes; what is left out stays. */
export interface MemoryChanges {
  /** Replaces the whole metadata. */
  metadata?: Metadata;
  /** Whether it is kept from being archived. */
  isPinned?: boolean;
  /** From when on it is no longer returned. null: never. */
  expiresAt?: Date | null;
}

/** A memory's metadata as JavaScript values; whole numbers beyond 2^53 as bigint. */
export function metadataOf(memory: Memory): Record<string, Scalar> {
  return Object.fromEntries(Object.entries(memory.metadata).map(([key, value]) => [key, fromScalar(value)]));
}

function fromScalar({ value }: MetadataValue): Scalar {
  if (value.case === "intValue" && Number.isSafeInteger(Number(value.value))) return Number(value.value);
  return value.value ?? ""; // of a kind that a newer server made
}

export function refuse(field: string, problem: string, reason: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field}: ${problem}`, { reason, field });
}

export function toTurns(turns: string | Turn | Iterable<string | Turn>): MessageInitShape<typeof TurnSchema>[] {
  const several = toList(turns);
  if (several.length === 0) throw refuse("turns", "at least one is required", "REQUIRED");
  return several.map((turn, i) => {
    if (typeof turn !== "string" && (typeof turn !== "object" || turn === null)) {
      throw refuse(`turns[${i}]`, `${typeName(turn)} is no text and no turn`, "WRONG_TYPE");
    }
    const { text, occurredAt, expiresAt, metadata, ...rest } = typeof turn === "string" ? { text: turn } : turn;
    return {
      ...rest,
      text: toText(text, `turns[${i}].text`),
      ...(rest.speaker !== undefined && { speaker: toText(rest.speaker, `turns[${i}].speaker`) }),
      metadata: toMetadata(metadata ?? {}, `turns[${i}].metadata`),
      ...(occurredAt && { occurredAt: toTimestamp(occurredAt, `turns[${i}].occurred_at`) }),
      ...(expiresAt && { expiresAt: toTimestamp(expiresAt, `turns[${i}].expires_at`) }),
    };
  });
}

/** What JavaScript may give in place of turns is refused, too. */
function toList(turns: string | Turn | Iterable<string | Turn>): (string | Turn)[] {
  if (typeof turns === "string") return [turns];
  if (typeof turns === "object" && turns !== null) {
    if ("text" in turns) return [turns];
    if (Symbol.iterator in turns) return [...turns];
  }
  throw refuse("turns", `${typeName(turns)} is no text, no turn and no list of them`, "WRONG_TYPE");
}

function typeName(value: unknown): string {
  return value === null ? "null" : typeof value;
}

/** Half of a character cannot be sent; it would arrive as another text. */
export function toText(text: string, field: string): string {
  if (typeof text !== "string") throw refuse(field, `${typeName(text)} is no text`, "WRONG_TYPE");
  if (/\p{Surrogate}/u.test(text)) throw refuse(field, "has half of a character (a lone surrogate)", "MALFORMED");
  return text;
}

export function toTimestamp(moment: Date, field: string): Timestamp {
  if (!(moment instanceof Date)) throw refuse(field, `${typeName(moment)} is no Date`, "WRONG_TYPE");
  if (Number.isNaN(moment.getTime())) throw refuse(field, "is no date", "OUT_OF_RANGE");
  return timestampFromDate(moment);
}

/** 0 often means a default, which whoever computed a 0 did not want; so most counts begin at 1. Undefined: the server's default. */
export function toCount(value: number | undefined, field: string, least = 1): number {
  if (value === undefined) return 0;
  if (!(Number.isInteger(value) && value >= least && value < 2 ** 32)) {
    throw refuse(field, `must be a whole number and at least ${least}, not ${value}`, "OUT_OF_RANGE");
  }
  return value;
}

export function toVersion(value: bigint | number): bigint {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw refuse("expected_version", `must be a whole number, not ${value}`, "OUT_OF_RANGE");
  }
  const version = BigInt(value);
  if (BigInt.asUintN(64, version) !== version) throw refuse("expected_version", `must be at least 0, not ${value}`, "OUT_OF_RANGE");
  return version;
}

export function toMetadata(metadata: Metadata, field: string): Record<string, MetadataValue> {
  return Object.fromEntries(
    Object.entries(metadata).map(([key, value]) => [key, toScalar(value, `${field}[${key}]`)]),
  );
}

export function toScalar(value: Scalar, field: string): MetadataValue {
  switch (typeof value) {
    case "string":
      return create(MetadataValueSchema, { value: { case: "stringValue", value: toText(value, field) } });
    case "boolean":
      return create(MetadataValueSchema, { value: { case: "boolValue", value } });
    case "bigint":
      if (BigInt.asIntN(64, value) !== value) throw refuse(field, `${value} is beyond 64 bits`, "OUT_OF_RANGE");
      return create(MetadataValueSchema, { value: { case: "intValue", value } });
    case "number":
      if (!Number.isFinite(value)) throw refuse(field, `${value} is not finite`, "OUT_OF_RANGE");
      if (Number.isSafeInteger(value)) {
        return create(MetadataValueSchema, { value: { case: "intValue", value: BigInt(value) } });
      }
      return create(MetadataValueSchema, { value: { case: "doubleValue", value } });
    default:
      throw refuse(field, `${typeof value} is not a string, number, bigint or boolean`, "WRONG_TYPE");
  }
}
