package lightmem

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

const eraseTimeout = 2 * time.Minute

// Stats gives figures of the whole namespace, or of one user when UserID is given here. Needs an admin key.
func (c *Client) Stats(ctx context.Context, options ...CallOption) (*Stats, error) {
	var settings writeSettings
	for _, option := range options {
		option.applyWrite(&settings)
	}
	request := &lightmempb.GetStatsRequest{}
	if settings.userID != nil {
		request.UserId = *settings.userID
	}
	return call(ctx, c, true, request, c.admin.GetStats)
}

// Consolidate turns a user's new turns into summaries and facts now, or follows the run at work; it gives progress until the run ends.
// Leaving the loop early stops nothing. It takes as long as its context allows. Needs an admin key.
func (c *Client) Consolidate(ctx context.Context, options ...CallOption) iter.Seq2[*ConsolidationProgress, error] {
	return func(yield func(*ConsolidationProgress, error) bool) {
		scope, err := c.callScope(options)
		if err != nil {
			yield(nil, err)
			return
		}
		request := &lightmempb.ConsolidateRequest{UserId: scope.GetUserId()}
		moments(ctx, c, yield, func(ctx context.Context) (grpc.ServerStreamingClient[ConsolidationProgress], error) {
			return c.admin.Consolidate(ctx, request)
		})
	}
}

// moments yields what a long call tells, once, with typed errors; leaving the loop ends the call.
func moments[T any](
	ctx context.Context, c *Client, yield func(*T, error) bool,
	open func(context.Context) (grpc.ServerStreamingClient[T], error),
) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, err := c.authorize(ctx)
	if err != nil {
		yield(nil, err)
		return
	}
	stream, err := open(ctx)
	for err == nil {
		var moment *T
		if moment, err = stream.Recv(); err == nil && !yield(moment, nil) {
			return
		}
	}
	if !errors.Is(err, io.EOF) {
		yield(nil, toError(ctx, err))
	}
}

// CancelConsolidation ends a user's run, and drops what waits; what the run had stored stays. Needs an admin key.
func (c *Client) CancelConsolidation(ctx context.Context, options ...CallOption) (*CancelledConsolidation, error) {
	scope, err := c.callScope(options)
	if err != nil {
		return nil, err
	}
	request := &lightmempb.CancelConsolidationRequest{UserId: scope.GetUserId()}
	return call(ctx, c, true, request, c.admin.CancelConsolidation)
}

// UndoConsolidation takes back everything that a run changed. Needs an admin key.
func (c *Client) UndoConsolidation(ctx context.Context, runID string) (*UndoneConsolidation, error) {
	return call(ctx, c, true, &lightmempb.UndoConsolidationRequest{RunId: runID}, c.admin.UndoConsolidation)
}

// EraseUser removes everything of a user, its bytes on disk too. What the user writes afterwards is a new user's; keys stay. There is no
// default for the user. Never repeated by itself: a repetition would lose the counts, and erase who writes meanwhile once more; repeat it
// when it fails. It may take two minutes, whatever the client's timeout. Needs an admin key.
func (c *Client) EraseUser(ctx context.Context, userID string) (*Erasure, error) {
	ctx, cancel := context.WithTimeout(ctx, max(c.timeout, eraseTimeout))
	defer cancel()
	var receipt *Erasure
	err := c.repeat(ctx, false, func(ctx context.Context) (err error) {
		receipt, err = c.admin.EraseUser(ctx, &lightmempb.EraseUserRequest{UserId: userID})
		return err
	})
	return receipt, err
}

// ExportUser gives everything of a user, as of one moment, part by part as it is read: lines of JSON that make a file. It takes as long as
// its context allows. Needs an admin key.
func (c *Client) ExportUser(ctx context.Context, userID string) iter.Seq2[*ExportPart, error] {
	return func(yield func(*ExportPart, error) bool) {
		moments(ctx, c, yield, func(ctx context.Context) (grpc.ServerStreamingClient[ExportPart], error) {
			return c.admin.ExportUser(ctx, &lightmempb.ExportUserRequest{UserId: userID})
		})
	}
}

// How much goes into one message of an import; the server takes 4 MiB and 4,096 lines.
const (
	importBytes = 256 << 10
	importLines = 1000
)

// ImportUser takes in what ExportUser gave, line by line in order, ids kept. What is there already stays; so when it fails, send everything
// again. Never repeated by itself; it takes as long as its context allows. Needs an admin key.
func (c *Client) ImportUser(ctx context.Context, userID string, lines iter.Seq[string]) (*ImportResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := c.admin.ImportUser(ctx)
	if err != nil {
		return nil, toError(ctx, err)
	}
	request, size, isFirst := &lightmempb.ImportUserRequest{UserId: userID}, 0, true
	send := func() error {
		err := stream.Send(request)
		request, size, isFirst = &lightmempb.ImportUserRequest{UserId: userID}, 0, false
		return err
	}
	for line := range lines {
		request.JsonLines = append(request.JsonLines, strings.TrimSuffix(line, "\n"))
		if size += len(line); size >= importBytes || len(request.JsonLines) >= importLines {
			if err = send(); err != nil {
				break // what ended it, CloseAndRecv says
			}
		}
	}
	if err == nil && (isFirst || len(request.JsonLines) > 0) {
		_ = send()
	}
	result, err := stream.CloseAndRecv()
	if err != nil {
		return nil, toError(ctx, err)
	}
	return result, nil
}

// Backup copies the whole store to a file on the server's machine while the server goes on, under this name within its folder of backups
// ("": the time); it gives progress until the copy is complete, verified and on disk. Leaving the loop early leaves no file. Never repeated
// by itself; it takes as long as its context allows. Needs the operator's key.
func (c *Client) Backup(ctx context.Context, name string) iter.Seq2[*BackupProgress, error] {
	return func(yield func(*BackupProgress, error) bool) {
		moments(ctx, c, yield, func(ctx context.Context) (grpc.ServerStreamingClient[BackupProgress], error) {
			return c.admin.Backup(ctx, &lightmempb.BackupRequest{Name: name})
		})
	}
}

// NewKey is what a key is made with.
type NewKey struct {
	// Label is for the people who keep it.
	Label string
	// UserIDs are the users it may act for; none: all.
	UserIDs []string
	// IsAdmin says whether it may administer.
	IsAdmin bool
	// ExpiresAt is when it stops working; zero: never.
	ExpiresAt time.Time
	// Namespace is whose memories it opens; "": the caller's. Another one: the server's operator alone.
	Namespace string
}

// CreateKey makes a key. Never repeated by itself. Needs an admin key.
func (c *Client) CreateKey(ctx context.Context, key NewKey) (*CreatedKey, error) {
	request := &lightmempb.CreateKeyRequest{Key: &APIKey{
		Label: key.Label, UserIds: key.UserIDs, IsAdmin: key.IsAdmin, ExpiresAt: toTimestamp(key.ExpiresAt),
		Namespace: key.Namespace,
	}}
	return call(ctx, c, false, request, c.admin.CreateKey)
}

// ListKeys gives a namespace's keys ("": the caller's), in the order of their ids, without their secrets. Needs an admin key.
func (c *Client) ListKeys(ctx context.Context, namespace string) iter.Seq2[*APIKey, error] {
	return func(yield func(*APIKey, error) bool) {
		pages(yield, func(token string) ([]*APIKey, string, error) {
			answer, err := call(ctx, c, true, &lightmempb.ListKeysRequest{PageToken: token, Namespace: namespace}, c.admin.ListKeys)
			return answer.GetKeys(), answer.GetNextPageToken(), err
		})
	}
}

// RotateKey puts a new key with the same rights in a key's place; the old one works for as long as overlap says, 0: not at all. Never
// repeated by itself. Needs an admin key.
func (c *Client) RotateKey(ctx context.Context, keyID string, overlap time.Duration) (*RotatedKey, error) {
	request := &lightmempb.RotateKeyRequest{KeyId: keyID}
	if overlap != 0 {
		request.Overlap = durationpb.New(overlap)
	}
	return call(ctx, c, false, request, c.admin.RotateKey)
}

// RevokeKey makes a key useless at once. Needs an admin key.
func (c *Client) RevokeKey(ctx context.Context, keyID string) (*APIKey, error) {
	answer, err := call(ctx, c, true, &lightmempb.RevokeKeyRequest{KeyId: keyID}, c.admin.RevokeKey)
	return answer.GetKey(), err
}
