package lightmem

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

const peerKey = "lm_peer_secret"

// peer is a small server that speaks the protocol over real gRPC, and fails on request. No part of LightMem is in it.
type peer struct {
	lightmempb.UnimplementedMemoryServiceServer
	lightmempb.UnimplementedAdminServiceServer

	options  []grpc.ServerOption
	server   *grpc.Server
	listener net.Listener
	target   string

	mutex    sync.Mutex
	failures []error
	calls    int
	texts    []string
	written  map[string][]string
	gone     map[string]bool
	holds    chan struct{} // writes are answered only after it is closed
	arrived  chan struct{} // one for each write request that came
}

func newPeer(t *testing.T, options ...grpc.ServerOption) *peer {
	t.Helper()
	p := &peer{options: options, written: map[string][]string{}, gone: map[string]bool{}, arrived: make(chan struct{}, 1000)}
	p.start(t, "127.0.0.1:0")
	t.Cleanup(func() { p.server.Stop() })
	return p
}

func (p *peer) start(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p.listener, p.target, p.server = listener, listener.Addr().String(), grpc.NewServer(p.options...)
	lightmempb.RegisterMemoryServiceServer(p.server, p)
	lightmempb.RegisterAdminServiceServer(p.server, p)
	go func(server *grpc.Server) { _ = server.Serve(listener) }(p.server)
}

func (p *peer) client(t *testing.T, options ...Option) *Client {
	t.Helper()
	policy := RetryPolicy{MaxAttempts: 4, Initial: 10 * time.Millisecond, Max: 50 * time.Millisecond}
	all := append([]Option{WithTarget(p.target), WithAPIKey(peerKey), WithUserID("ann"), WithRetry(policy)}, options...)
	client, err := New(all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (p *peer) fail(failures ...error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.failures = append(p.failures, failures...)
}

// begin counts the call, checks the key, and gives the error that it ends with.
func (p *peer) begin(ctx context.Context) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.calls++
	if headers, _ := metadata.FromIncomingContext(ctx); len(headers["authorization"]) != 1 ||
		headers["authorization"][0] != "Bearer "+peerKey {
		return failure(codes.Unauthenticated, "KEY_INVALID")
	}
	if len(p.failures) == 0 {
		return nil
	}
	next := p.failures[0]
	p.failures = p.failures[1:]
	return next
}

func (p *peer) callCount() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.calls
}

func failure(code codes.Code, reason string) error {
	answer, _ := status.New(code, "as asked").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "lightmem"})
	return answer.Err()
}

func overloaded(after time.Duration) error {
	answer, _ := status.New(codes.ResourceExhausted, "as asked").WithDetails(
		&errdetails.ErrorInfo{Reason: "OVERLOADED"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	return answer.Err()
}

func (p *peer) Write(stream lightmempb.MemoryService_WriteServer) error {
	err := p.begin(stream.Context())
	if err != nil {
		return err
	}
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p.arrived <- struct{}{}
		p.mutex.Lock()
		holds := p.holds
		p.mutex.Unlock()
		if holds != nil {
			select {
			case <-holds:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
		answer, err := p.store(request)
		if err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (p *peer) store(request *lightmempb.WriteRequest) (*lightmempb.WriteResponse, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	answer := &lightmempb.WriteResponse{RequestId: request.GetRequestId()}
	if ids, known := p.written[request.GetRequestId()]; known {
		answer.MemoryIds, answer.IsReplay = ids, true
		return answer, nil
	}
	for _, turn := range request.GetTurns() {
		if turn.GetText() == "refuse me" {
			return nil, failure(codes.InvalidArgument, "REFUSED")
		}
		p.texts = append(p.texts, turn.GetText())
		answer.MemoryIds = append(answer.MemoryIds, strconv.Itoa(len(p.texts)))
	}
	p.written[request.GetRequestId()] = answer.MemoryIds
	return answer, nil
}

func (p *peer) stored() []string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return append([]string{}, p.texts...)
}

func (p *peer) Retrieve(request *lightmempb.RetrieveRequest, stream lightmempb.MemoryService_RetrieveServer) error {
	if err := p.begin(stream.Context()); err != nil {
		return err
	}
	if err := stream.Send(&RetrievePart{Part: &lightmempb.RetrieveResponse_Memories{
		Memories: &lightmempb.RetrievedMemories{PackedContext: request.GetQuery()},
	}}); err != nil || request.GetQuery() == "cut off" {
		return err
	}
	return stream.Send(&RetrievePart{Part: &lightmempb.RetrieveResponse_Trace{Trace: &lightmempb.RetrievalTrace{}}})
}

func (p *peer) GetMemory(ctx context.Context, request *lightmempb.GetMemoryRequest) (*lightmempb.GetMemoryResponse, error) {
	if err := p.begin(ctx); err != nil {
		return nil, err
	}
	return &lightmempb.GetMemoryResponse{Memory: &Memory{Id: request.GetMemoryId()}}, nil
}

func (p *peer) UpdateMemory(
	ctx context.Context, request *lightmempb.UpdateMemoryRequest,
) (*lightmempb.UpdateMemoryResponse, error) {
	return &lightmempb.UpdateMemoryResponse{Memory: request.GetMemory()}, p.begin(ctx)
}

// DeleteMemory takes effect even where it is told to fail, as when the answer is lost on the way.
func (p *peer) DeleteMemory(
	ctx context.Context, request *lightmempb.DeleteMemoryRequest,
) (*lightmempb.DeleteMemoryResponse, error) {
	err := p.begin(ctx)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if err == nil && p.gone[request.GetMemoryId()] {
		err = failure(codes.NotFound, "NOT_FOUND")
	}
	p.gone[request.GetMemoryId()] = true
	return &lightmempb.DeleteMemoryResponse{}, err
}

func (p *peer) CreateKey(ctx context.Context, _ *lightmempb.CreateKeyRequest) (*lightmempb.CreateKeyResponse, error) {
	return &lightmempb.CreateKeyResponse{}, p.begin(ctx)
}

func (p *peer) EraseUser(ctx context.Context, _ *lightmempb.EraseUserRequest) (*lightmempb.EraseUserResponse, error) {
	return &lightmempb.EraseUserResponse{}, p.begin(ctx)
}
