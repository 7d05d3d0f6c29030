package lightmem

import (
	"time"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

// MemoryFilter says which memories to consider. Zero fields don't restrict; several hold together.
type MemoryFilter struct {
	// Tiers: one of these; STM is refused, it is the context and not a place that is searched.
	Tiers []Tier
	// Kinds: one of these.
	Kinds []Kind
	// SessionIDs: one of these, at most 64.
	SessionIDs []string
	// AgentIDs: one of these, at most 64.
	AgentIDs []string
	// OccurredFrom: said at or after this.
	OccurredFrom time.Time
	// OccurredTo: said before this.
	OccurredTo time.Time
	// AsOf: facts as they held at this moment. Zero: as they hold now.
	AsOf time.Time
	// Metadata is an expression over metadata; the zero Expression doesn't restrict.
	Metadata Expression
	// IncludeArchived: also archived records; for List alone.
	IncludeArchived bool
}

func (f MemoryFilter) toProto(err *error) *lightmempb.MemoryFilter {
	if f.Metadata.err != nil {
		*err = f.Metadata.err
	}
	return &lightmempb.MemoryFilter{
		Tiers:           f.Tiers,
		Kinds:           f.Kinds,
		SessionIds:      f.SessionIDs,
		AgentIds:        f.AgentIDs,
		OccurredFrom:    toTimestamp(f.OccurredFrom),
		OccurredTo:      toTimestamp(f.OccurredTo),
		AsOf:            toTimestamp(f.AsOf),
		Metadata:        f.Metadata.filter,
		IncludeArchived: f.IncludeArchived,
	}
}

// Expression is a boolean expression over metadata, made by Meta, And, Or and Not. A record that lacks a condition's key, or holds a
// value of another type, does not match it, whatever the operator; int and float compare as numbers. At most 64 conditions and 8 levels.
type Expression struct {
	filter *lightmempb.MetadataFilter
	err    error
}

// Meta is a metadata key to compare: Meta("city").Eq("Rome").
type Meta string

func (m Meta) compare(operator lightmempb.MetadataCondition_Operator, values ...any) Expression {
	condition := &lightmempb.MetadataCondition{Key: string(m), Operator: operator}
	for _, value := range values {
		scalar, err := toScalar(value, "filter.metadata["+string(m)+"]")
		if err != nil {
			return Expression{err: err}
		}
		condition.Values = append(condition.Values, scalar)
	}
	return Expression{filter: &lightmempb.MetadataFilter{
		Expression: &lightmempb.MetadataFilter_Condition{Condition: condition},
	}}
}

// Eq holds for the same value.
func (m Meta) Eq(value any) Expression {
	return m.compare(lightmempb.MetadataCondition_OPERATOR_EQ, value)
}

// Ne holds for another value of the same type.
func (m Meta) Ne(value any) Expression {
	return m.compare(lightmempb.MetadataCondition_OPERATOR_NE, value)
}

// Gt holds for a greater value.
func (m Meta) Gt(value any) Expression {
	return m.compare(lightmempb.MetadataCondition_OPERATOR_GT, value)
}

// Gte holds for a greater value, and for the same.
func (m Meta) Gte(value any) Expression {
	return m.compare(lightmempb.MetadataCondition_OPERATOR_GTE, value)
}

// Lt holds for a smaller value.
func (m Meta) Lt(value any) Expression {
	return m.compare(lightmempb.MetadataCondition_OPERATOR_LT, value)
}

// Lte holds for a smaller value, and for the same.
func (m Meta) Lte(value any) Expression {
	return m.compare(lightmempb.MetadataCondition_OPERATOR_LTE, value)
}

// IsIn holds for one of 1 to 64 values.
func (m Meta) IsIn(values ...any) Expression {
	return m.compare(lightmempb.MetadataCondition_OPERATOR_IN, values...)
}

// Contains holds for a text that contains this one, case-sensitive.
func (m Meta) Contains(text string) Expression {
	return m.compare(lightmempb.MetadataCondition_OPERATOR_CONTAINS, text)
}

// And holds when all of the expressions do.
func And(expressions ...Expression) Expression {
	list, err := toList(expressions)
	return Expression{&lightmempb.MetadataFilter{Expression: &lightmempb.MetadataFilter_AllOf{AllOf: list}}, err}
}

// Or holds when at least one of the expressions does.
func Or(expressions ...Expression) Expression {
	list, err := toList(expressions)
	return Expression{&lightmempb.MetadataFilter{Expression: &lightmempb.MetadataFilter_AnyOf{AnyOf: list}}, err}
}

// Not holds when the expression does not.
func Not(expression Expression) Expression {
	return Expression{
		&lightmempb.MetadataFilter{Expression: &lightmempb.MetadataFilter_Not{Not: expression.filter}}, expression.err,
	}
}

func toList(expressions []Expression) (*lightmempb.MetadataFilter_List, error) {
	list := &lightmempb.MetadataFilter_List{}
	for _, expression := range expressions {
		if expression.err != nil {
			return nil, expression.err
		}
		list.Filters = append(list.Filters, expression.filter)
	}
	return list, nil
}
