package lightmem

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

// Client speaks to one LightMem server; safe for concurrent use. What may be repeated is, with backoff, on ErrUnavailable and on
// ErrOverloaded that says when, within the call's time.
type Client struct {
	target, userID, agentID string
	keys                    keys
	timeout                 time.Duration
	tls                     *tls.Config
	isPlainText             bool
	retry                   RetryPolicy

	connection *grpc.ClientConn
	memory     lightmempb.MemoryServiceClient
	admin      lightmempb.AdminServiceClient
}

// New makes a client. Nothing is opened before the first call.
func New(options ...Option) (*Client, error) {
	c := &Client{timeout: 30 * time.Second, retry: DefaultRetryPolicy}
	for _, option := range options {
		option(c)
	}
	c.target = findTarget(c.target)
	if strings.HasPrefix(c.target, "http://") || strings.HasPrefix(c.target, "https://") { // gRPC would take it for a host's name
		return nil, invalid("target", "MALFORMED", "takes HOST:PORT, not %s", c.target)
	}
	c.keys.target = c.target
	connection, err := grpc.NewClient(c.target, c.dialOptions()...)
	if err != nil {
		return nil, invalid("target", "MALFORMED", "%s: %v", c.target, err)
	}
	c.connection = connection
	c.memory = lightmempb.NewMemoryServiceClient(connection)
	c.admin = lightmempb.NewAdminServiceClient(connection)
	return c, nil
}

// dialOptions: undecided, only this machine is spoken to in plain text, so that a key never crosses a network in the clear.
func (c *Client) dialOptions() []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(math.MaxInt32), // a page of 1,000 long turns passes gRPC's 4 MiB; the server bounds it
			grpc.MaxCallSendMsgSize(math.MaxInt32), // the server's limit decides, and says so
		),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	isHere := isLocal(c.target)
	if isHere {
		options = append(options, grpc.WithNoProxy())
	}
	if c.isPlainText || (c.tls == nil && isHere) {
		return append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	return append(options, grpc.WithTransportCredentials(credentials.NewTLS(c.tls)))
}

// Target is where the server is.
func (c *Client) Target() string { return c.target }

// Close ends the connection; calls at work fail with ErrCancelled, reason CLOSED. Closing again does nothing.
func (c *Client) Close() error {
	err := c.connection.Close()
	if status.Code(err) == codes.Canceled { // it is closed
		return nil
	}
	return err
}

// IsHealthy says whether a server answers and is ready. Needs no key.
func (c *Client) IsHealthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, min(c.timeout, 5*time.Second))
	defer cancel()
	answer, err := grpc_health_v1.NewHealthClient(c.connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err == nil && answer.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING
}

// WaitReady waits until the server is there and ready, or fails with ErrDeadlineExceeded, or ErrCancelled with its context. Needs no key.
func (c *Client) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	health := grpc_health_v1.NewHealthClient(c.connection)
	for failures := 1; ; failures++ {
		err := watchUntilServing(ctx, health)
		if err == nil {
			return nil
		}
		failure := toError(ctx, err)
		if errors.Is(ctx.Err(), context.Canceled) {
			return cancelled(ctx)
		}
		isOver := !failure.isTransient() || !sleep(ctx, c.retry.wait(failures, failure))
		if isOver && (failure.isTransient() || ctx.Err() != nil) {
			notReady := newError(ErrDeadlineExceeded, "NOT_READY", "no server is ready at %s", c.target)
			notReady.cause = failure
			return notReady
		}
		if isOver {
			return failure
		}
	}
}

func watchUntilServing(ctx context.Context, health grpc_health_v1.HealthClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if answer.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
			return nil
		}
	}
}

// scope says whose memory a call is about: its own options, else the client's.
func (c *Client) scope(settings scopeSettings) (*lightmempb.Scope, error) {
	scope := &lightmempb.Scope{UserId: c.userID, AgentId: c.agentID}
	if settings.userID != nil {
		scope.UserId = *settings.userID
	}
	if settings.agentID != nil {
		scope.AgentId = *settings.agentID
	}
	if settings.sessionID != nil {
		scope.SessionId = *settings.sessionID
	}
	if scope.UserId == "" {
		return nil, invalid("scope.user_id", "REQUIRED", "is required; give UserID to the call or WithUserID to the client")
	}
	return scope, nil
}

func (c *Client) callScope(options []CallOption) (*lightmempb.Scope, error) {
	var settings writeSettings
	for _, option := range options {
		option.applyWrite(&settings)
	}
	return c.scope(settings.scopeSettings)
}

// authorize adds the key.
func (c *Client) authorize(ctx context.Context) (context.Context, error) {
	key, err := c.keys.find()
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key), nil
}

// call runs a unary call within its time, repeated if it may be.
func call[Request, Response any](
	ctx context.Context, c *Client, isRepeatable bool, request Request,
	method func(context.Context, Request, ...grpc.CallOption) (Response, error),
) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var answer Response
	err := c.repeat(ctx, isRepeatable, func(ctx context.Context) error {
		var err error
		answer, err = method(ctx, request)
		return err
	})
	return answer, err
}
