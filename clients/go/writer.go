package lightmem

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

const defaultMaxInFlight = 32

// PendingWrite is a request on its way.
type PendingWrite struct {
	request *lightmempb.WriteRequest
	done    chan struct{}
	result  *WriteResult
	err     error
}

// RequestID is what makes sending it again harmless.
func (p *PendingWrite) RequestID() string { return p.request.GetRequestId() }

// Done is closed when Result answers at once.
func (p *PendingWrite) Done() <-chan struct{} { return p.done }

// Result waits for the acknowledgement. When the context ends first, the request stays on its way.
func (p *PendingWrite) Result(ctx context.Context) (*WriteResult, error) {
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
		return nil, waitError(ctx)
	}
}

func waitError(ctx context.Context) *Error {
	failure := newError(ErrDeadlineExceeded, "DEADLINE_EXCEEDED", "requests were not acknowledged in time")
	if errors.Is(ctx.Err(), context.Canceled) {
		failure = newError(ErrCancelled, "CANCELLED", "the wait was cancelled")
	}
	failure.cause = ctx.Err()
	return failure
}

// Writer streams turns of one scope: fast, in order, and it survives a lost connection. Safe for concurrent use.
//
// When the connection breaks, it reconnects with backoff and sends again what was not acknowledged, with the same request ids, so
// nothing is stored twice. A request that is refused ends the writer: its error goes to its PendingWrite, those behind it get
// ErrWriteAbandoned, and so does every later Send.
type Writer struct {
	client      *Client
	scope       *lightmempb.Scope
	maxInFlight int
	ended       chan struct{}
	cancel      context.CancelFunc

	mutex    sync.Mutex
	changed  chan struct{}   // closed and made anew with every change
	window   []*PendingWrite // oldest first; those before sent are on the present stream
	sent     int
	err      *Error
	isClosed bool
}

// OpenWriter opens a stream for many writes. Close ends it.
func (c *Client) OpenWriter(options ...WriterOption) (*Writer, error) {
	settings := writerSettings{maxInFlight: defaultMaxInFlight}
	for _, option := range options {
		option.applyWriter(&settings)
	}
	scope, err := c.scope(settings.scopeSettings)
	if err != nil {
		return nil, err
	}
	if settings.maxInFlight < 1 {
		return nil, invalid("max_in_flight", "OUT_OF_RANGE", "must be at least 1, not %d", settings.maxInFlight)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writer{
		client: c, scope: scope, maxInFlight: settings.maxInFlight,
		ended: make(chan struct{}), cancel: cancel, changed: make(chan struct{}),
	}
	go w.work(ctx)
	return w, nil
}

// Send hands over one request of one or several turns. It returns at once, or waits while MaxInFlight requests are on their way. When the
// context ends first, or has ended, the request was not taken in.
func (w *Writer) Send(ctx context.Context, turns ...Turn) (*PendingWrite, error) {
	return w.SendRequest(ctx, "", turns...)
}

// SendRequest is Send with a request id of the caller's own, which makes it harmless to send over the writer's life too; "": a fresh one.
func (w *Writer) SendRequest(ctx context.Context, requestID string, turns ...Turn) (*PendingWrite, error) {
	request, err := toWriteRequest(w.scope, turns, requestID)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, waitError(ctx)
	}
	pending := &PendingWrite{request: request, done: make(chan struct{})}
	err = w.wait(ctx, func() (bool, error) {
		if w.err != nil {
			return true, w.abandoned()
		}
		if w.isClosed {
			return true, &Error{Status: codes.Canceled, Reason: "CLOSED", Message: "the writer is closed"}
		}
		if len(w.window) >= w.maxInFlight {
			return false, nil
		}
		w.window = append(w.window, pending)
		w.change()
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return pending, nil
}

// Flush waits until everything sent is acknowledged, and gives what a request failed with.
func (w *Writer) Flush(ctx context.Context) error {
	return w.wait(ctx, func() (bool, error) {
		if w.err != nil {
			return true, w.err
		}
		return len(w.window) == 0, nil
	})
}

// Close flushes, then ends the stream. When the context ends first, what is not acknowledged fails with ErrCancelled. Closing again does
// nothing more.
func (w *Writer) Close(ctx context.Context) error {
	w.mutex.Lock()
	isFirst := !w.isClosed
	w.isClosed = true
	w.change()
	w.mutex.Unlock()
	if !isFirst {
		return nil
	}
	err := w.Flush(ctx)
	if err != nil {
		w.abandon(&Error{Status: codes.Canceled, Reason: "CLOSED", Message: "the writer was closed before the acknowledgement"})
		w.cancel()
	}
	<-w.ended
	return err
}

// wait calls isReached under the lock, after every change, until it is true or the context ends.
func (w *Writer) wait(ctx context.Context, isReached func() (bool, error)) error {
	for {
		w.mutex.Lock()
		reached, err := isReached()
		changed := w.changed
		w.mutex.Unlock()
		if reached || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return waitError(ctx)
		}
	}
}

// change tells those who wait. The lock is held.
func (w *Writer) change() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *Writer) abandoned() *Error {
	failure := newError(ErrWriteAbandoned, ErrWriteAbandoned.Reason, "an earlier request of this writer failed")
	failure.cause = w.err
	return failure
}

// work holds one stream after another until the writer is closed or fails. However it ends, nobody waits in vain.
func (w *Writer) work(ctx context.Context) {
	defer close(w.ended)
	defer w.cancel()
	failures, deadline := 0, time.Time{}
	for w.hasWork(ctx) {
		hasProgress, failure := w.converse(ctx)
		if failure == nil {
			failures = 0
			continue
		}
		if failures == 0 || hasProgress {
			failures, deadline = 0, time.Now().Add(w.client.timeout)
		}
		failures++
		attempt, cancel := context.WithDeadline(ctx, deadline)
		isOver := !failure.isTransient() || !sleep(attempt, w.client.retry.wait(failures, failure))
		cancel()
		if isOver {
			w.abandon(failure)
			return
		}
	}
}

// hasWork waits for something to send; it is false when there will be no more.
func (w *Writer) hasWork(ctx context.Context) bool {
	hasSome := false
	err := w.wait(ctx, func() (bool, error) {
		w.sent = 0 // a new stream begins: what is left is sent again, in order
		hasSome = len(w.window) > 0 && w.err == nil
		return hasSome || w.isClosed || w.err != nil, nil
	})
	return err == nil && hasSome
}

// converse holds one stream to its end: an error when it broke off with requests unanswered.
func (w *Writer) converse(ctx context.Context) (hasProgress bool, failure *Error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, err := w.client.authorize(ctx)
	if err != nil {
		return false, toError(ctx, err)
	}
	stream, err := w.client.memory.Write(ctx)
	if err != nil {
		return false, toError(ctx, err)
	}
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		w.sendUnsent(ctx, stream)
	}()
	defer func() {
		cancel()
		<-sending
	}()
	for {
		result, err := stream.Recv()
		if err == nil {
			err = w.acknowledge(result)
		}
		if err != nil {
			return hasProgress, w.endOf(ctx, err)
		}
		hasProgress = true
	}
}

// sendUnsent sends what waits; the end of it is the end of our half of the stream.
func (w *Writer) sendUnsent(ctx context.Context, stream lightmempb.MemoryService_WriteClient) {
	for {
		var next *PendingWrite
		err := w.wait(ctx, func() (bool, error) {
			if w.sent < len(w.window) {
				next = w.window[w.sent]
				w.sent++
			}
			return next != nil || w.isClosed || w.err != nil, nil
		})
		if err != nil {
			return
		}
		if next == nil {
			_ = stream.CloseSend() // Recv says what became of the stream
			return
		}
		if stream.Send(next.request) != nil { // so it does here
			return
		}
	}
}

func (w *Writer) acknowledge(result *WriteResult) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.sent == 0 || w.window[0].RequestID() != result.GetRequestId() {
		return newError(ErrInternal, "ACKNOWLEDGED_OUT_OF_ORDER",
			"the server acknowledged request '%s' out of order", result.GetRequestId())
	}
	pending := w.window[0]
	w.window, w.sent = w.window[1:], w.sent-1
	pending.result = result
	close(pending.done)
	w.change()
	return nil
}

// endOf says what the end of a stream means: nothing when everything was acknowledged.
func (w *Writer) endOf(ctx context.Context, err error) *Error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if len(w.window) == 0 {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return newError(ErrUnavailable, "STREAM_ENDED", "the server ended the stream with requests unanswered")
	}
	return toError(ctx, err)
}

// abandon ends the writer: the oldest request failed with this error, the others with it.
func (w *Writer) abandon(failure *Error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if len(w.window) > 0 && w.err == nil {
		w.err = failure
	}
	for i, pending := range w.window {
		pending.err = failure
		if i > 0 {
			pending.err = w.abandoned()
		}
		close(pending.done)
	}
	w.window, w.sent = nil, 0
	w.change()
}
