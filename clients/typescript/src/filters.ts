/** Which memories an operation considers, and expressions over their metadata. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";

import {
  type Kind,
  MetadataCondition_Operator as Operator,
  type MetadataFilter,
  MetadataFilterSchema,
  type MemoryFilterSchema,
  type Tier,
} from "./gen/lightmem/v1/memory_pb.js";
import { type Scalar, toScalar, toTimestamp } from "./records.js";

/** A boolean expression over metadata, made by `meta`, `allOf`, `anyOf` and `not`. */
export type Expression = MetadataFilter;

/** Which memories to consider. Fields left out don't restrict; several hold together. */
export interface MemoryFilter {
  /** One of these; STM is refused, it is the context and not a place that is searched. */
  tiers?: Tier[];
  /** One of these. */
  kinds?: Kind[];
  /** One of these, at most 64. */
  sessionIds?: string[];
  /** One of these, at most 64. */
  agentIds?: string[];
  /** Said at or after this. */
  occurredFrom?: Date;
  /** Said before this. */
  occurredTo?: Date;
  /** Facts as they held at this moment. Left out: as they hold now. */
  asOf?: Date;
  /** A condition on metadata. */
  metadata?: Expression;
  /** Also archived records; for `list` alone. */
  includeArchived?: boolean;
}

/**
 * A metadata key to compare: `meta("city").eq("Rome")`. A record that lacks the key, or holds a value of another type, does not
 * match, whatever the operator; whole and other numbers compare.
 */
export function meta(key: string) {
  const compare =
    (operator: Operator) =>
    (...values: Scalar[]): Expression =>
      create(MetadataFilterSchema, {
        expression: {
          case: "condition",
          value: { key, operator, values: values.map((value) => toScalar(value, `filter.metadata[${key}]`)) },
        },
      });
  return {
    eq: (value: Scalar) => compare(Operator.EQ)(value),
    ne: (value: Scalar) => compare(Operator.NE)(value),
    gt: (value: Scalar) => compare(Operator.GT)(value),
    gte: (value: Scalar) => compare(Operator.GTE)(value),
    lt: (value: Scalar) => compare(Operator.LT)(value),
    lte: (value: Scalar) => compare(Operator.LTE)(value),
    /** Equal to one of 1 to 64 values. */
    isIn: compare(Operator.IN),
    /** A text that contains this one, case-sensitive. */
    contains: (text: string) => compare(Operator.CONTAINS)(text),
  };
}

/** Holds when all of the expressions do. */
export function allOf(...filters: Expression[]): Expression {
  return create(MetadataFilterSchema, { expression: { case: "allOf", value: { filters } } });
}

/** Holds when at least one of the expressions does. */
export function anyOf(...filters: Expression[]): Expression {
  return create(MetadataFilterSchema, { expression: { case: "anyOf", value: { filters } } });
}

/** Holds when the expression does not. */
export function not(value: Expression): Expression {
  return create(MetadataFilterSchema, { expression: { case: "not", value } });
}

export function toFilter(value: MemoryFilter | Expression): MessageInitShape<typeof MemoryFilterSchema> {
  if ("$typeName" in value) return { metadata: value };
  const { occurredFrom, occurredTo, asOf, ...rest } = value;
  return {
    ...rest,
    ...(occurredFrom && { occurredFrom: toTimestamp(occurredFrom, "filter.occurred_from") }),
    ...(occurredTo && { occurredTo: toTimestamp(occurredTo, "filter.occurred_to") }),
    ...(asOf && { asOf: toTimestamp(asOf, "filter.as_of") }),
  };
}
