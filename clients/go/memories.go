package lightmem

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"math"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

// Write stores one turn or several, whole or not at all; when it returns, they are on disk and can be found.
func (c *Client) Write(ctx context.Context, turns []Turn, options ...WriteOption) (*WriteResult, error) {
	var settings writeSettings
	for _, option := range options {
		option.applyWrite(&settings)
	}
	scope, err := c.scope(settings.scopeSettings)
	if err != nil {
		return nil, err
	}
	request, err := toWriteRequest(scope, turns, settings.requestID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var result *WriteResult
	err = c.repeat(ctx, true, func(ctx context.Context) error {
		result, err = c.writeOnce(ctx, request)
		return err
	})
	return result, err
}

func toWriteRequest(scope *lightmempb.Scope, turns []Turn, requestID string) (*lightmempb.WriteRequest, error) {
	messages, err := toTurns(turns)
	if err != nil {
		return nil, err
	}
	if requestID == "" { // so that it can be retried
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		requestID = hex.EncodeToString(id[:])
	}
	return &lightmempb.WriteRequest{Scope: scope, Turns: messages, RequestId: requestID}, nil
}

func (c *Client) writeOnce(ctx context.Context, request *lightmempb.WriteRequest) (*WriteResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.memory.Write(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv says why
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	result, err := stream.Recv()
	if err != nil {
		return nil, unexpectedEnd(err)
	}
	if _, err = stream.Recv(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = newError(ErrInternal, "INCOMPLETE_ANSWER", "one request got several answers")
		}
		return nil, err
	}
	return result, nil
}

func unexpectedEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return newError(ErrInternal, "INCOMPLETE_ANSWER", "the answer ended too early")
	}
	return err
}

// Retrieve gives what the agent needs to know now; SessionID names the running conversation.
func (c *Client) Retrieve(ctx context.Context, query string, options ...RetrieveOption) (*RetrieveResult, error) {
	request, err := c.toRetrieveRequest(query, options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var result *RetrieveResult
	err = c.repeat(ctx, true, func(ctx context.Context) error {
		result, err = c.retrieveOnce(ctx, request)
		return err
	})
	return result, err
}

func (c *Client) toRetrieveRequest(query string, options []RetrieveOption) (*lightmempb.RetrieveRequest, error) {
	var settings retrieveSettings
	for _, option := range options {
		option.applyRetrieve(&settings)
	}
	if settings.err != nil {
		return nil, settings.err
	}
	scope, err := c.scope(settings.scopeSettings)
	if err != nil {
		return nil, err
	}
	if !isText(query) {
		return nil, invalid("query", "MALFORMED", "is not UTF-8")
	}
	settings.request.Scope, settings.request.Query = scope, query
	return &settings.request, nil
}

func (c *Client) retrieveOnce(ctx context.Context, request *lightmempb.RetrieveRequest) (*RetrieveResult, error) {
	stream, err := c.memory.Retrieve(ctx, request)
	if err != nil {
		return nil, err
	}
	var result RetrieveResult
	hasMemories := false
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) && hasMemories && (result.Trace != nil || request.GetExcludeTrace()) {
			return &result, nil
		}
		if err != nil {
			return nil, unexpectedEnd(err)
		}
		switch part := part.GetPart().(type) {
		case *lightmempb.RetrieveResponse_Context:
			result.Context = part.Context.GetTurns()
		case *lightmempb.RetrieveResponse_Coarse:
			result.Coarse = part.Coarse.GetHits()
		case *lightmempb.RetrieveResponse_Memories:
			hasMemories = true
			result.Memories = part.Memories.GetMemories()
			result.SharedMemories = part.Memories.GetSharedMemories()
			result.PackedContext = part.Memories.GetPackedContext()
			result.TokenCount = part.Memories.GetTokenCount()
		case *lightmempb.RetrieveResponse_Trace:
			result.Trace = part.Trace
		}
	}
}

// RetrieveStream is Retrieve part by part as they come. Leaving the loop early cancels the call; an error is the last thing it gives.
func (c *Client) RetrieveStream(ctx context.Context, query string, options ...RetrieveOption) iter.Seq2[*RetrievePart, error] {
	return func(yield func(*RetrievePart, error) bool) {
		request, err := c.toRetrieveRequest(query, options)
		if err != nil {
			yield(nil, err)
			return
		}
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		var stream lightmempb.MemoryService_RetrieveClient
		var part *RetrievePart
		err = c.repeat(ctx, true, func(ctx context.Context) error { // repeated only until something has come
			if stream, err = c.memory.Retrieve(ctx, request); err != nil {
				return err
			}
			part, err = stream.Recv()
			return unexpectedEnd(err)
		})
		for err == nil {
			if !yield(part, nil) {
				return
			}
			part, err = stream.Recv()
		}
		if !errors.Is(err, io.EOF) {
			yield(nil, toError(ctx, err))
		}
	}
}

// Explain says why a memory is, or is not, among what Retrieve with the same arguments returns.
func (c *Client) Explain(ctx context.Context, query, memoryID string, options ...RetrieveOption) (*Explanation, error) {
	retrieve, err := c.toRetrieveRequest(query, options)
	if err != nil {
		return nil, err
	}
	return call(ctx, c, true, &lightmempb.ExplainRequest{Retrieve: retrieve, MemoryId: memoryID}, c.memory.Explain)
}

// Get gives one memory.
func (c *Client) Get(ctx context.Context, memoryID string, options ...CallOption) (*Memory, error) {
	scope, err := c.callScope(options)
	if err != nil {
		return nil, err
	}
	answer, err := call(ctx, c, true, &lightmempb.GetMemoryRequest{Scope: scope, MemoryId: memoryID}, c.memory.GetMemory)
	return answer.GetMemory(), err
}

// List gives all memories, newest first, fetched page by page as the loop goes; an error is the last thing it gives.
func (c *Client) List(ctx context.Context, options ...ListOption) iter.Seq2[*Memory, error] {
	return func(yield func(*Memory, error) bool) {
		settings := listSettings{}
		for _, option := range options {
			option.applyList(&settings)
		}
		scope, err := c.scope(settings.scopeSettings)
		if settings.err != nil {
			err = settings.err
		}
		if err != nil {
			yield(nil, err)
			return
		}
		settings.request.Scope = scope
		pages(yield, func(token string) ([]*Memory, string, error) {
			settings.request.PageToken = token
			answer, err := call(ctx, c, true, &settings.request, c.memory.ListMemories)
			return answer.GetMemories(), answer.GetNextPageToken(), err
		})
	}
}

// pages yields the items of one page after the other.
func pages[T any](yield func(T, error) bool, fetch func(token string) ([]T, string, error)) {
	token := ""
	for {
		items, next, err := fetch(token)
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
		if token = next; token == "" {
			return
		}
	}
}

// Update changes metadata, pin or expiry; what is nil stays. It is repeated only with ExpectedVersion: without, a repetition could undo
// another's change in between. An ErrAborted may then also mean that the first attempt went through: read again, then decide.
func (c *Client) Update(ctx context.Context, memoryID string, changes MemoryChanges, options ...CallOption) (*Memory, error) {
	scope, err := c.callScope(options)
	if err != nil {
		return nil, err
	}
	memory := &Memory{Id: memoryID}
	mask := &fieldmaskpb.FieldMask{}
	if changes.Metadata != nil {
		if memory.Metadata, err = toMetadata(changes.Metadata, "memory.metadata"); err != nil {
			return nil, err
		}
		mask.Paths = append(mask.Paths, "metadata")
	}
	if changes.IsPinned != nil {
		memory.IsPinned = *changes.IsPinned
		mask.Paths = append(mask.Paths, "is_pinned")
	}
	if changes.ExpiresAt != nil {
		memory.ExpiresAt = toTimestamp(*changes.ExpiresAt)
		mask.Paths = append(mask.Paths, "expires_at")
	}
	if len(mask.Paths) == 0 {
		return nil, invalid("update_mask", "REQUIRED", "nothing to change; give Metadata, IsPinned or ExpiresAt")
	}
	answer, err := call(ctx, c, changes.ExpectedVersion != 0, &lightmempb.UpdateMemoryRequest{
		Scope: scope, Memory: memory, UpdateMask: mask, ExpectedVersion: changes.ExpectedVersion,
	}, c.memory.UpdateMemory)
	return answer.GetMemory(), err
}

// Delete deletes one memory for good; ErrNotFound when it wasn't there before the first attempt.
func (c *Client) Delete(ctx context.Context, memoryID string, options ...CallOption) error {
	scope, err := c.callScope(options)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	isUnclear := false
	return c.repeat(ctx, true, func(ctx context.Context) error {
		_, err := c.memory.DeleteMemory(ctx, &lightmempb.DeleteMemoryRequest{Scope: scope, MemoryId: memoryID})
		if err == nil {
			return nil
		}
		failure := toError(ctx, err)
		if isUnclear && failure.Is(ErrNotFound) { // an attempt whose outcome was not known has done it
			return nil
		}
		isUnclear = isUnclear || failure.Is(ErrUnavailable)
		return failure
	})
}

// History gives every version of one memory, oldest first, with what made it so.
func (c *Client) History(ctx context.Context, memoryID string, options ...CallOption) ([]*MemoryVersion, error) {
	scope, err := c.callScope(options)
	if err != nil {
		return nil, err
	}
	request := &lightmempb.GetMemoryHistoryRequest{Scope: scope, MemoryId: memoryID}
	answer, err := call(ctx, c, true, request, c.memory.GetMemoryHistory)
	return answer.GetChanges(), err
}

// GetContext gives the running conversation of a session, oldest first, at most maxTurns turns (0: all); empty when there is none.
func (c *Client) GetContext(ctx context.Context, sessionID string, maxTurns int, options ...CallOption) ([]*Memory, error) {
	scope, err := c.callScope(append(options, SessionID(sessionID)))
	if err != nil {
		return nil, err
	}
	if maxTurns < 0 || maxTurns > math.MaxInt32 {
		return nil, invalid("max_turns", "OUT_OF_RANGE", "must be at least 0, not %d", maxTurns)
	}
	request := &lightmempb.GetContextRequest{Scope: scope, MaxTurns: uint32(maxTurns)}
	answer, err := call(ctx, c, true, request, c.memory.GetContext)
	return answer.GetTurns(), err
}
