package lightmem

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

// What the calls return, under the names that all of LightMem's clients use.
type (
	// Memory is one record of the memory.
	Memory = lightmempb.Memory
	// MemoryVersion is one version of a memory, with what made it so.
	MemoryVersion = lightmempb.GetMemoryHistoryResponse_Change
	// RetrievedMemory is a memory as an answer.
	RetrievedMemory = lightmempb.RetrievedMemory
	// RetrievePart is one part of a streamed answer: the running conversation, coarse hits, memories, or the trace.
	RetrievePart = lightmempb.RetrieveResponse
	// RetrievalTrace is how a retrieval came to its answer.
	RetrievalTrace = lightmempb.RetrievalTrace
	// Explanation is why one memory is, or is not, among the results of a retrieval.
	Explanation = lightmempb.ExplainResponse
	// Stats are figures of the namespace, or of one user of it, and of the server.
	Stats = lightmempb.GetStatsResponse
	// ConsolidationProgress is one moment of a consolidation run.
	ConsolidationProgress = lightmempb.ConsolidateResponse
	// CancelledConsolidation is what was cancelled.
	CancelledConsolidation = lightmempb.CancelConsolidationResponse
	// UndoneConsolidation is what undoing a run did.
	UndoneConsolidation = lightmempb.UndoConsolidationResponse
	// Erasure is the receipt of an erasure.
	Erasure = lightmempb.EraseUserResponse
	// ExportPart is some lines of an export, each a JSON object without its line feed, and how many of how many lines have come.
	ExportPart = lightmempb.ExportUserResponse
	// ImportResult is what an import did.
	ImportResult = lightmempb.ImportUserResponse
	// BackupProgress is one moment of a backup.
	BackupProgress = lightmempb.BackupResponse
	// RotatedKey is a key that took another's place, its secret, which is shown this once, and the other one as it is now.
	RotatedKey = lightmempb.RotateKeyResponse
	// APIKey is what is known of a key; the secret is not kept.
	APIKey = lightmempb.ApiKey
	// CreatedKey is a new key and its secret, which is shown this once.
	CreatedKey = lightmempb.CreateKeyResponse
	// WriteResult is the acknowledgement of one write: its turns are on disk and can be found.
	WriteResult = lightmempb.WriteResponse

	// Role is who spoke a turn, in the sense of chat APIs.
	Role = lightmempb.Role
	// Tier is which store of the memory hierarchy holds a record.
	Tier = lightmempb.Tier
	// Kind is what a record is.
	Kind = lightmempb.Kind
	// SelectorMode is how much the Selector may do in one retrieval.
	SelectorMode = lightmempb.SelectorMode
)

// The values that requests take.
const (
	RoleUser      = lightmempb.Role_ROLE_USER
	RoleAssistant = lightmempb.Role_ROLE_ASSISTANT
	RoleSystem    = lightmempb.Role_ROLE_SYSTEM
	RoleTool      = lightmempb.Role_ROLE_TOOL

	TierMTM = lightmempb.Tier_TIER_MTM
	TierLTM = lightmempb.Tier_TIER_LTM

	KindTurn    = lightmempb.Kind_KIND_TURN
	KindSummary = lightmempb.Kind_KIND_SUMMARY
	KindFact    = lightmempb.Kind_KIND_FACT
	KindProfile = lightmempb.Kind_KIND_PROFILE

	SelectorModeOff  = lightmempb.SelectorMode_SELECTOR_MODE_OFF
	SelectorModeFast = lightmempb.SelectorMode_SELECTOR_MODE_FAST
	SelectorModeFull = lightmempb.SelectorMode_SELECTOR_MODE_FULL
)

// RetrieveResult is a whole answer.
type RetrieveResult struct {
	// Context is the running conversation of the session, oldest first.
	Context []*Memory
	// Coarse are the coarse hits, when asked for.
	Coarse []*RetrievedMemory
	// Memories is what was selected, best first.
	Memories []*RetrievedMemory
	// SharedMemories is what several users of the namespace say alike, best first; nobody's. Empty unless the server shares.
	SharedMemories []*RetrievedMemory
	// PackedContext is the conversation's newest turns and the memories as text, with dates and speakers, for a prompt.
	PackedContext string
	// TokenCount is the tokens of PackedContext.
	TokenCount uint32
	// Trace is how it came about; nil with ExcludeTrace.
	Trace *RetrievalTrace
}

// Metadata maps keys to a string, a bool or a number of any type.
type Metadata map[string]any

// Turn is one turn of a conversation, to write.
type Turn struct {
	// Text is what was said, verbatim; not only white space.
	Text string
	// Speaker is who said it, a name or handle; "" when unknown.
	Speaker string
	// Role is the speaker's role; 0: a user.
	Role Role
	// OccurredAt is when it was said; zero: when the server receives it.
	OccurredAt time.Time
	// Metadata is what to filter by later: at most 32 keys.
	Metadata Metadata
	// IsPinned: never archived for lack of room.
	IsPinned bool
	// ExpiresAt is from when on it is no longer returned; zero: never.
	ExpiresAt time.Time
}

// Text is a turn of which nothing else is known.
func Text(text string) Turn { return Turn{Text: text} }

// MemoryChanges is what Update changes; what is nil stays.
type MemoryChanges struct {
	// Metadata replaces the whole metadata.
	Metadata Metadata
	// IsPinned says whether it is kept from being archived.
	IsPinned *bool
	// ExpiresAt is from when on it is no longer returned; a zero time: never.
	ExpiresAt *time.Time
	// ExpectedVersion refuses the change with ErrAborted when the record's version is another. 0: whatever it is.
	ExpectedVersion uint64
}

// MetadataOf gives a memory's metadata as Go values; 64-bit integers for whole numbers.
func MetadataOf(memory *Memory) Metadata {
	metadata := make(Metadata, len(memory.GetMetadata()))
	for key, value := range memory.GetMetadata() {
		switch value := value.GetValue().(type) {
		case *lightmempb.MetadataValue_StringValue:
			metadata[key] = value.StringValue
		case *lightmempb.MetadataValue_IntValue:
			metadata[key] = value.IntValue
		case *lightmempb.MetadataValue_DoubleValue:
			metadata[key] = value.DoubleValue
		case *lightmempb.MetadataValue_BoolValue:
			metadata[key] = value.BoolValue
		}
	}
	return metadata
}

func toTurns(turns []Turn) ([]*lightmempb.Turn, error) {
	if len(turns) == 0 {
		return nil, invalid("turns", "REQUIRED", "at least one is required")
	}
	messages := make([]*lightmempb.Turn, len(turns))
	for i, turn := range turns {
		metadata, err := toMetadata(turn.Metadata, fmt.Sprintf("turns[%d].metadata", i))
		if err != nil {
			return nil, err
		}
		if !isText(turn.Text) {
			return nil, invalid(fmt.Sprintf("turns[%d].text", i), "MALFORMED", "is not UTF-8")
		}
		if !isText(turn.Speaker) {
			return nil, invalid(fmt.Sprintf("turns[%d].speaker", i), "MALFORMED", "is not UTF-8")
		}
		messages[i] = &lightmempb.Turn{
			Text:       turn.Text,
			Speaker:    turn.Speaker,
			Role:       turn.Role,
			OccurredAt: toTimestamp(turn.OccurredAt),
			Metadata:   metadata,
			IsPinned:   turn.IsPinned,
			ExpiresAt:  toTimestamp(turn.ExpiresAt),
		}
	}
	return messages, nil
}

// isText is what protobuf asks of a string; without it the call would fail as an internal error.
func isText(text string) bool { return strings.ToValidUTF8(text, "") == text }

func toTimestamp(moment time.Time) *timestamppb.Timestamp {
	if moment.IsZero() {
		return nil
	}
	return timestamppb.New(moment)
}

func toMetadata(metadata Metadata, field string) (map[string]*lightmempb.MetadataValue, error) {
	if metadata == nil {
		return nil, nil
	}
	values := make(map[string]*lightmempb.MetadataValue, len(metadata))
	for key, value := range metadata {
		scalar, err := toScalar(value, field+"["+key+"]")
		if err != nil {
			return nil, err
		}
		values[key] = scalar
	}
	return values, nil
}

func toScalar(value any, field string) (*lightmempb.MetadataValue, error) {
	of := reflect.ValueOf(value)
	switch {
	case of.Kind() == reflect.String:
		if !isText(of.String()) {
			return nil, invalid(field, "MALFORMED", "is not UTF-8")
		}
		return &lightmempb.MetadataValue{Value: &lightmempb.MetadataValue_StringValue{StringValue: of.String()}}, nil
	case of.Kind() == reflect.Bool:
		return &lightmempb.MetadataValue{Value: &lightmempb.MetadataValue_BoolValue{BoolValue: of.Bool()}}, nil
	case of.CanInt():
		return &lightmempb.MetadataValue{Value: &lightmempb.MetadataValue_IntValue{IntValue: of.Int()}}, nil
	case of.CanUint():
		if of.Uint() > math.MaxInt64 {
			return nil, invalid(field, "OUT_OF_RANGE", "%v is beyond 64 bits", value)
		}
		return &lightmempb.MetadataValue{Value: &lightmempb.MetadataValue_IntValue{IntValue: int64(of.Uint())}}, nil
	case of.CanFloat():
		if math.IsNaN(of.Float()) || math.IsInf(of.Float(), 0) {
			return nil, invalid(field, "OUT_OF_RANGE", "%v is not finite", value)
		}
		return &lightmempb.MetadataValue{Value: &lightmempb.MetadataValue_DoubleValue{DoubleValue: of.Float()}}, nil
	}
	return nil, invalid(field, "WRONG_TYPE", "%T is not a string, a number or a bool", value)
}
