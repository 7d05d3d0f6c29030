package lightmem

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var unavailable = failure(codes.Unavailable, "STARTING")

func TestOnlyThisMachineIsLocal(t *testing.T) {
	for target, expected := range map[string]bool{
		"localhost:7420": true, "127.0.0.1:7420": true, "127.8.8.8:1": true, "[::1]:7420": true,
		"dns:///localhost:7420": true, "localhost": true, "unix:/run/lightmem.sock": true,
		"10.0.0.7:7420": false, "memory.example.org:7420": false, "localhost.example.org:7420": false,
		"dns:///memory.example.org:7420": false, "dns://localhost/memory.example.org:7420": false,
	} {
		if isLocal(target) != expected {
			t.Errorf("isLocal(%q) is %v", target, !expected)
		}
	}
}

func TestAURLIsNoTarget(t *testing.T) {
	if _, err := New(WithTarget("http://localhost:7420")); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
}

func TestKeyComesFromOptionThenEnvironmentThenFile(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("LIGHTMEM_DATA_DIR", folder)
	t.Setenv("LIGHTMEM_API_KEY", "lm_env")
	if err := os.WriteFile(filepath.Join(folder, "admin.key"), []byte("lm_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect := func(given, expected string) {
		t.Helper()
		if key, err := findKey(given, "localhost:1"); err != nil || key != expected {
			t.Errorf("%q, %v instead of %q", key, err, expected)
		}
	}
	expect("lm_option", "lm_option")
	expect("", "lm_env")
	t.Setenv("LIGHTMEM_API_KEY", "")
	expect("", "lm_file")
	if _, err := findKey("", "memory.example.org:1"); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("the local key went to another machine: %v", err)
	}
	if _, err := findKey("lm_ü", "localhost:1"); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("a key that no header can carry: %v", err)
	}
}

func TestErrorsAreToldApartByStatusAndReason(t *testing.T) {
	p := newPeer(t)
	p.fail(failure(codes.FailedPrecondition, "NO_WRITER"))
	_, err := p.client(t).Retrieve(t.Context(), "x")
	var failed *Error
	if !errors.As(err, &failed) || failed.Reason != "NO_WRITER" {
		t.Fatalf("%v", err)
	}
	if !errors.Is(err, ErrFailedPrecondition) || errors.Is(err, ErrNotFound) {
		t.Errorf("%v is not what it is", err)
	}
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("gRPC sees %v", status.Code(err))
	}
}

func TestWhatMayBeRepeatedIs(t *testing.T) {
	ctx := t.Context()
	for name, call := range map[string]func(*Client) error{
		"write":    func(c *Client) error { _, err := c.Write(ctx, []Turn{Text("x")}); return err },
		"retrieve": func(c *Client) error { _, err := c.Retrieve(ctx, "x"); return err },
		"get":      func(c *Client) error { _, err := c.Get(ctx, "1"); return err },
		"update at a version": func(c *Client) error {
			_, err := c.Update(ctx, "1", MemoryChanges{IsPinned: new(bool), ExpectedVersion: 1})
			return err
		},
		"retrieve as a stream": func(c *Client) error {
			for _, err := range c.RetrieveStream(ctx, "x") {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			p.fail(unavailable, overloaded(time.Millisecond))
			if err := call(p.client(t)); err != nil || p.callCount() != 3 {
				t.Errorf("%v after %d calls", err, p.callCount())
			}
		})
	}
}

func TestWhatMayNotBeRepeatedIsNot(t *testing.T) {
	ctx := t.Context()
	get := func(c *Client) error { _, err := c.Get(ctx, "1"); return err }
	update := func(c *Client) error {
		_, err := c.Update(ctx, "1", MemoryChanges{IsPinned: new(bool)})
		return err
	}
	createKey := func(c *Client) error { _, err := c.CreateKey(ctx, NewKey{}); return err }
	erase := func(c *Client) error { _, err := c.EraseUser(ctx, "ann"); return err }
	for name, test := range map[string]struct {
		call    func(*Client) error
		failure error
	}{
		"a key":                      {createKey, unavailable},
		"an update":                  {update, unavailable},
		"an erasure":                 {erase, unavailable},
		"a limit that stays":         {get, status.Error(codes.ResourceExhausted, "too large")},
		"what is not there":          {get, failure(codes.NotFound, "NOT_FOUND")},
		"a deadline that has passed": {get, failure(codes.DeadlineExceeded, "")},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			p.fail(test.failure)
			if err := test.call(p.client(t)); err == nil || p.callCount() != 1 {
				t.Errorf("%v after %d calls", err, p.callCount())
			}
		})
	}
}

func TestAttemptsAndTimeAreBounded(t *testing.T) {
	p := newPeer(t)
	p.fail(unavailable, unavailable, unavailable, unavailable, unavailable)
	if _, err := p.client(t).Get(t.Context(), "1"); !errors.Is(err, ErrUnavailable) || p.callCount() != 4 {
		t.Errorf("%v after %d calls", err, p.callCount())
	}
	p = newPeer(t)
	p.fail(overloaded(time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.client(t).Get(ctx, "1"); !errors.Is(err, ErrOverloaded) || p.callCount() != 1 {
		t.Errorf("%v after %d calls: the wait asked for would outlast the call", err, p.callCount())
	}
}

func TestACancelledCallSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := newPeer(t).client(t).Get(ctx, "1")
	if !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestADeleteWhoseAnswerWasLostHasSucceeded(t *testing.T) {
	p := newPeer(t)
	p.fail(unavailable)
	if err := p.client(t).Delete(t.Context(), "1"); err != nil {
		t.Errorf("%v", err)
	}
	if err := p.client(t).Delete(t.Context(), "1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestAnAnswerThatIsCutOffIsNoAnswer(t *testing.T) {
	_, err := newPeer(t).client(t).Retrieve(t.Context(), "cut off")
	if !errors.Is(err, ErrInternal) {
		t.Errorf("%v", err)
	}
}

func TestWhatCannotBeSentIsRefusedBefore(t *testing.T) {
	p := newPeer(t)
	c := p.client(t)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"no turns": func() error { _, err := c.Write(ctx, nil); return err },
		"no user":  func() error { _, err := c.Write(ctx, []Turn{Text("x")}, UserID("")); return err },
		"metadata": func() error {
			_, err := c.Write(ctx, []Turn{{Text: "x", Metadata: Metadata{"a": []int{1}}}})
			return err
		},
		"filter":      func() error { _, err := c.Retrieve(ctx, "x", Where(Not(Meta("a").Eq(nil)))); return err },
		"no memories": func() error { _, err := c.Retrieve(ctx, "x", MaxMemories(0)); return err },
		"no change":   func() error { _, err := c.Update(ctx, "1", MemoryChanges{}); return err },
		"no text":     func() error { _, err := c.Write(ctx, []Turn{Text("\xff")}); return err },
	} {
		if err := call(); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p.callCount() != 0 {
		t.Errorf("%d calls", p.callCount())
	}
}

func TestWhatIsGivenUpIsCancelled(t *testing.T) {
	p := newPeer(t)
	c := p.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	writer, err := c.OpenWriter()
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for name, call := range map[string]func() error{
		"write":     func() error { _, err := c.Write(ctx, []Turn{Text("x")}); return err },
		"retrieve":  func() error { _, err := c.Retrieve(ctx, "x"); return err },
		"get":       func() error { _, err := c.Get(ctx, "1"); return err },
		"waitReady": func() error { return c.WaitReady(ctx) },
		"send":      func() error { _, err := writer.Send(ctx, Text("x")); return err },
		"list": func() error {
			for _, err := range c.List(ctx) {
				return err
			}
			return nil
		},
	} {
		var failed *Error
		err := call()
		if !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) || !errors.As(err, &failed) || failed.Reason != "CANCELLED" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := writer.Close(t.Context()); err != nil || len(p.texts) != 0 {
		t.Errorf("%v, %v", err, p.texts)
	}
}

func TestAClosedClientSaysSo(t *testing.T) {
	c := newPeer(t).client(t)
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	var failed *Error
	if _, err := c.Get(t.Context(), "1"); !errors.Is(err, ErrCancelled) || !errors.As(err, &failed) || failed.Reason != "CLOSED" {
		t.Errorf("%v", err)
	}
}

func TestMetadataTakesEveryNumber(t *testing.T) {
	type label string
	metadata, err := toMetadata(Metadata{
		"a": int8(1), "b": uint32(2), "c": float32(.5), "d": label("x"), "e": time.Second, "f": uint64(1) << 62,
	}, "metadata")
	if err != nil {
		t.Fatal(err)
	}
	read := MetadataOf(&Memory{Metadata: metadata})
	for key, expected := range map[string]any{
		"a": int64(1), "b": int64(2), "c": .5, "d": "x", "e": int64(time.Second), "f": int64(1) << 62,
	} {
		if read[key] != expected {
			t.Errorf("%s is %v (%T)", key, read[key], read[key])
		}
	}
	for reason, value := range map[string]any{"OUT_OF_RANGE": ^uint64(0), "WRONG_TYPE": []int{1}, "MALFORMED": "\xff"} {
		var failed *Error
		_, err := toMetadata(Metadata{"a": value}, "metadata")
		if !errors.As(err, &failed) || failed.Reason != reason {
			t.Errorf("%v: %v", value, err)
		}
	}
}

func TestNegativeCountsAreRefused(t *testing.T) {
	c := newPeer(t).client(t)
	if _, err := c.Retrieve(t.Context(), "x", HypotheticalQueries(-1)); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
	if _, err := c.GetContext(t.Context(), "s", -1); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
}
