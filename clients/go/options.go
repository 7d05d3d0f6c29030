package lightmem

import (
	"crypto/tls"
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

// Option says how a client is made.
type Option func(*Client)

// WithTarget says where the server is, HOST:PORT. Default: LIGHTMEM_TARGET, else localhost:7420.
func WithTarget(target string) Option { return func(c *Client) { c.target = target } }

// WithAPIKey gives the key. Default: LIGHTMEM_API_KEY, else for a server on this machine the key that its first start left.
func WithAPIKey(key string) Option { return func(c *Client) { c.keys.given = key } }

// WithUserID names the user of the calls that name none.
func WithUserID(userID string) Option { return func(c *Client) { c.userID = userID } }

// WithAgentID names the agent of the calls that name none.
func WithAgentID(agentID string) Option { return func(c *Client) { c.agentID = agentID } }

// WithTimeout bounds a call with its repetitions, beside what its context says. Default: 30 seconds.
func WithTimeout(timeout time.Duration) Option { return func(c *Client) { c.timeout = timeout } }

// WithTLS speaks TLS. Default: TLS with the system's roots unless the target is this machine.
func WithTLS(config *tls.Config) Option {
	return func(c *Client) { c.tls, c.isPlainText = config, false }
}

// WithPlainText speaks without TLS also beyond this machine: the key and the memories travel in the clear.
func WithPlainText() Option { return func(c *Client) { c.tls, c.isPlainText = nil, true } }

// WithRetry says how often and how fast to repeat. Default: DefaultRetryPolicy.
func WithRetry(policy RetryPolicy) Option { return func(c *Client) { c.retry = policy } }

// CallOption says whose memory a call is about; every call takes it.
type CallOption interface {
	RetrieveOption
	WriteOption
	ListOption
	WriterOption
}

// WriteOption is an option of Write.
type WriteOption interface{ applyWrite(*writeSettings) }

// WriterOption is an option of OpenWriter.
type WriterOption interface{ applyWriter(*writerSettings) }

// RetrieveOption is an option of Retrieve, RetrieveStream and Explain.
type RetrieveOption interface{ applyRetrieve(*retrieveSettings) }

// ListOption is an option of List.
type ListOption interface{ applyList(*listSettings) }

type scopeSettings struct{ userID, agentID, sessionID *string }

type writeSettings struct {
	scopeSettings
	requestID string
}

type writerSettings struct {
	scopeSettings
	maxInFlight int
}

type listSettings struct {
	scopeSettings
	request lightmempb.ListMemoriesRequest
	err     error
}

type retrieveSettings struct {
	scopeSettings
	request lightmempb.RetrieveRequest
	err     error
}

func (s *retrieveSettings) budget() *lightmempb.RetrievalBudget {
	if s.request.Budget == nil {
		s.request.Budget = &lightmempb.RetrievalBudget{}
	}
	return s.request.Budget
}

type scopeOption func(*scopeSettings)

func (o scopeOption) applyWrite(s *writeSettings)       { o(&s.scopeSettings) }
func (o scopeOption) applyWriter(s *writerSettings)     { o(&s.scopeSettings) }
func (o scopeOption) applyRetrieve(s *retrieveSettings) { o(&s.scopeSettings) }
func (o scopeOption) applyList(s *listSettings)         { o(&s.scopeSettings) }

// UserID names the user, instead of the client's.
func UserID(userID string) CallOption {
	return scopeOption(func(s *scopeSettings) { s.userID = &userID })
}

// AgentID names the agent that writes, instead of the client's.
func AgentID(agentID string) CallOption {
	return scopeOption(func(s *scopeSettings) { s.agentID = &agentID })
}

// SessionID names the conversation: of the turns that are written, or the running one that completes a query.
func SessionID(sessionID string) CallOption {
	return scopeOption(func(s *scopeSettings) { s.sessionID = &sessionID })
}

type writeOption func(*writeSettings)

func (o writeOption) applyWrite(s *writeSettings) { o(s) }

// RequestID makes a repeated write harmless, over the client's life too; without it, every Write has one of its own.
func RequestID(requestID string) WriteOption {
	return writeOption(func(s *writeSettings) { s.requestID = requestID })
}

type writerOption func(*writerSettings)

func (o writerOption) applyWriter(s *writerSettings) { o(s) }

// MaxInFlight is the most requests without acknowledgement; beyond it Send waits. Default: 32.
func MaxInFlight(count int) WriterOption {
	return writerOption(func(s *writerSettings) { s.maxInFlight = count })
}

type listOption func(*listSettings)

func (o listOption) applyList(s *listSettings) { o(s) }

// PageSize is how many memories are fetched at once, at most 1,000. Default: 100.
func PageSize(count int) ListOption {
	return listOption(func(s *listSettings) { s.request.PageSize = toCount(count, "page_size", &s.err) })
}

type retrieveOption func(*retrieveSettings)

func (o retrieveOption) applyRetrieve(s *retrieveSettings) { o(s) }

// MaxMemories is the most memories to return, 1 to 100.
func MaxMemories(count int) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) {
		s.budget().MaxMemories = toCount(count, "budget.max_memories", &s.err)
	})
}

// MaxCandidates is the most candidates that the Selector sees, 1 to 200, at least MaxMemories.
func MaxCandidates(count int) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) {
		s.budget().MaxCandidates = toCount(count, "budget.max_candidates", &s.err)
	})
}

// MaxTokens is the most tokens of the packed context, 1 to 32,768.
func MaxTokens(count int) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.budget().MaxTokens = toCount(count, "budget.max_tokens", &s.err) })
}

// Deadline is how long the server may take, 1 ms to 10 s; what isn't judged by then keeps its coarse order. Late means less judged,
// never late.
func Deadline(deadline time.Duration) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.budget().Deadline = durationpb.New(deadline) })
}

// AskedAt is the moment to which "yesterday" in the query is relative. Default: the server's clock.
func AskedAt(moment time.Time) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.request.AskedAt = timestamppb.New(moment) })
}

// TimeZone is the IANA name of the user's time zone, such as "Europe/Berlin". Default: UTC.
func TimeZone(name string) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.request.TimeZone = name })
}

// Mode is how much the Selector may do.
func Mode(mode SelectorMode) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.request.SelectorMode = mode })
}

// MinRelevance holds back memories with a lower relevance, 0 to 1.
func MinRelevance(relevance float64) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.request.MinRelevance = proto.Float64(relevance) })
}

// IncludeCoarse also returns the coarse hits, before the Selector judged them.
func IncludeCoarse() RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.request.IncludeCoarse = true })
}

// ExcludeContext leaves the running conversation out of the answer.
func ExcludeContext() RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.request.ExcludeContext = true })
}

// ExcludeShared leaves facts of the shared LTM out of the answer.
func ExcludeShared() RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.request.ExcludeShared = true })
}

// ExcludeTrace leaves the trace out of the answer: a millisecond less, and 10 KB. RetrieveResult.Trace is nil then.
func ExcludeTrace() RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.request.ExcludeTrace = true })
}

// HypotheticalQueries is how many guesses at the memory looked for the server's Writer may add, 0 to 4; give it seconds of Deadline.
func HypotheticalQueries(count int) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) {
		if count < 0 || count > math.MaxInt32 {
			s.err = invalid("hypothetical_queries", "OUT_OF_RANGE", "must be at least 0, not %d", count)
			return
		}
		s.request.HypotheticalQueries = uint32(count)
	})
}

// Tokenizer says how tokens are counted: a name that the server knows. Default: the embedder's tokenizer.
func Tokenizer(name string) RetrieveOption {
	return retrieveOption(func(s *retrieveSettings) { s.request.Tokenizer = name })
}

type filterOption struct{ filter MemoryFilter }

func (o filterOption) applyRetrieve(s *retrieveSettings) {
	s.request.Filter = o.filter.toProto(&s.err)
}
func (o filterOption) applyList(s *listSettings) { s.request.Filter = o.filter.toProto(&s.err) }

// FilterOption is an option of Retrieve and List.
type FilterOption interface {
	RetrieveOption
	ListOption
}

// Filter says which memories to consider.
func Filter(filter MemoryFilter) FilterOption { return filterOption{filter} }

// Where says which memories to consider by their metadata alone.
func Where(metadata Expression) FilterOption { return filterOption{MemoryFilter{Metadata: metadata}} }

// toCount refuses 0, which would mean the default: whoever computed a 0 did not want that.
func toCount(value int, field string, err *error) uint32 {
	if value < 1 || value > 1<<31-1 {
		*err = invalid(field, "OUT_OF_RANGE", "must be at least 1, not %d", value)
		return 0
	}
	return uint32(value)
}
