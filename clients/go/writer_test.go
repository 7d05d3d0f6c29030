package lightmem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func open(t *testing.T, c *Client, options ...WriterOption) *Writer {
	t.Helper()
	w, err := c.OpenWriter(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.Close(ctx)
	})
	return w
}

func send(t *testing.T, w *Writer, text string) *PendingWrite {
	t.Helper()
	pending, err := w.Send(t.Context(), Text(text))
	if err != nil {
		t.Fatal(err)
	}
	return pending
}

func numbers(count int) []string {
	texts := make([]string, count)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	return texts
}

func TestWriterSendsInOrderAndCloseFlushes(t *testing.T) {
	p := newPeer(t)
	w := open(t, p.client(t))
	for _, text := range numbers(100) {
		send(t, w, text)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.stored(), numbers(100)) || p.callCount() != 1 {
		t.Errorf("%v in %d calls", p.stored(), p.callCount())
	}
	if _, err := w.Send(t.Context(), Text("late")); !errors.Is(err, ErrCancelled) {
		t.Errorf("%v", err)
	}
}

func TestSendWaitsWhileTheWindowIsFull(t *testing.T) {
	p := newPeer(t)
	p.holds = make(chan struct{})
	w := open(t, p.client(t), MaxInFlight(2))
	send(t, w, "0")
	send(t, w, "1")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := w.Send(ctx, Text("2")); !errors.Is(err, ErrDeadlineExceeded) {
		t.Fatalf("the third was taken in: %v", err)
	}
	close(p.holds)
	if result, err := send(t, w, "3").Result(t.Context()); err != nil || len(result.GetMemoryIds()) != 1 {
		t.Errorf("%v, %v", result, err)
	}
	if !slices.Equal(p.stored(), []string{"0", "1", "3"}) {
		t.Errorf("%v", p.stored())
	}
}

func TestWriterSurvivesALostConnectionAndStoresNothingTwice(t *testing.T) {
	p := newPeer(t)
	w := open(t, p.client(t))
	for _, text := range numbers(10) {
		send(t, w, text)
	}
	<-p.arrived
	p.server.Stop() // in the middle of the stream
	address := p.target
	p.start(t, address)
	for _, text := range numbers(20)[10:] {
		send(t, w, text)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.stored(), numbers(20)) {
		t.Errorf("%v", p.stored())
	}
}

func TestARefusedRequestEndsTheWriter(t *testing.T) {
	p := newPeer(t)
	p.holds = make(chan struct{})
	w := open(t, p.client(t))
	good, bad, behind := send(t, w, "good"), send(t, w, "refuse me"), send(t, w, "behind")
	close(p.holds)
	if _, err := good.Result(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := bad.Result(t.Context()); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
	_, err := behind.Result(t.Context())
	if !errors.Is(err, ErrWriteAbandoned) || errors.Is(err, ErrAborted) || !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
	if _, err := w.Send(t.Context(), Text("late")); !errors.Is(err, ErrWriteAbandoned) {
		t.Errorf("%v", err)
	}
	if err := w.Flush(t.Context()); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
	if !slices.Equal(p.stored(), []string{"good"}) {
		t.Errorf("%v", p.stored())
	}
}

func TestCloseWithoutTimeGivesUp(t *testing.T) {
	p := newPeer(t)
	p.holds = make(chan struct{})
	w := open(t, p.client(t))
	pending := send(t, w, "0")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := w.Close(ctx); !errors.Is(err, ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := pending.Result(t.Context()); !errors.Is(err, ErrCancelled) {
		t.Errorf("%v", err)
	}
}

func TestARequestIDMakesASendHarmlessToRepeat(t *testing.T) {
	p := newPeer(t)
	writer, err := p.client(t).OpenWriter()
	if err != nil {
		t.Fatal(err)
	}
	sent, err := writer.SendRequest(t.Context(), "r1", Text("x"))
	if err != nil {
		t.Fatal(err)
	}
	if result, err := sent.Result(t.Context()); err != nil || result.GetRequestId() != "r1" {
		t.Errorf("%v, %v", result, err)
	}
	if err := writer.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
