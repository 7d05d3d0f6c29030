package lightmem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

// idle is how long a stream says nothing, on average.
const idle = time.Minute

// TestManyStreams holds many write streams open, each of a user of its own and mostly idle, while others ask without a pause, all on one
// connection: nothing fails but by explicit backpressure, every turn is acknowledged, and the server's memory stays within a bound.
//
// The short form is part of the tests. The full form: LIGHTMEM_LOAD="streams=1000 retrievers=64 seconds=60 rss_mib=512"; rss_mib is how
// much the server, whose process is LIGHTMEM_SERVER_PID, may grow.
func TestManyStreams(t *testing.T) {
	streams, retrievers, seconds, rssMiB := readLoad(t)
	c := serverClient(t, WithRetry(RetryPolicy{MaxAttempts: 1, Initial: 100 * time.Millisecond, Max: time.Second}), WithTimeout(2*time.Minute))
	wire := &wireCounts{MemoryServiceClient: c.memory, counts: map[string]int{}}
	c.memory = wire
	before := serverMiB(t, "VmRSS")
	user := "many-" + newNames().run + "-"
	talking, hush := context.WithTimeout(t.Context(), time.Duration(seconds*float64(time.Second)))
	defer hush()

	var opening, asking, said sync.WaitGroup
	var answers, turns atomic.Int64
	opening.Add(streams)
	allOpen := make(chan struct{})
	for i := range streams {
		said.Go(func() {
			err := talk(t.Context(), c, user+strconv.Itoa(i), &turns, &opening, allOpen, talking)
			if err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	opening.Wait()
	open := wire.open.Load()
	close(allOpen)
	for i := range retrievers {
		asking.Go(func() {
			for talking.Err() == nil {
				_, err := c.Retrieve(t.Context(), "Where do I live?", UserID(user+strconv.Itoa(i%streams)))
				if err == nil {
					answers.Add(1)
				} else if failure := wire.count(t.Context(), "Retrieve", err); failure.RetryAfter != nil {
					isOverAfter(talking, *failure.RetryAfter)
				}
			}
		})
	}
	asking.Wait()
	said.Wait()
	most := serverMiB(t, "VmHWM")

	if open != int64(streams) {
		t.Errorf("%d streams were open at once, not %d", open, streams)
	}
	for _, err := range wire.unexpected {
		t.Errorf("no backpressure: %v", err)
	}
	if before > 0 && most > before+rssMiB {
		t.Errorf("the server grew from %.0f to %.0f MiB", before, most)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("%d streams open at once, %d turns acknowledged; %d retrievers, %d answers in %.0f s", open, turns.Load(), retrievers,
		answers.Load(), seconds)
	t.Logf("server: %.0f MiB before, %.0f MiB at most; this process: %d MiB from the system", before, most, memory.Sys>>20)
	for _, name := range slices.Sorted(maps.Keys(wire.counts)) {
		t.Logf("%s: %d", name, wire.counts[name])
	}
}

// talk says a turn when it comes, one again now and then, and one at the end, all on one writer, and waits for each acknowledgement.
func talk(
	ctx context.Context, c *Client, user string, turns *atomic.Int64, opening *sync.WaitGroup, allOpen <-chan struct{},
	talking context.Context,
) error {
	isOpen := sync.OnceFunc(opening.Done)
	defer isOpen()
	writer, err := c.OpenWriter(UserID(user), SessionID("s"))
	if err != nil {
		return err
	}
	say := func(text string) error {
		sent, err := writer.Send(ctx, Text(text))
		if err == nil {
			_, err = sent.Result(ctx)
		}
		if err == nil {
			turns.Add(1)
		}
		return err
	}
	if err := say("I moved to Rome, said " + user); err != nil {
		return err
	}
	isOpen()
	<-allOpen
	for n := 0; !isOverAfter(talking, idle/2+time.Duration(rand.Int64N(int64(idle)))); n++ {
		if err := say(fmt.Sprintf("Something else, number %d", n)); err != nil {
			return err
		}
	}
	if err := say("Good night, said " + user); err != nil {
		return err
	}
	return writer.Close(ctx)
}

// isOverAfter waits, but not beyond the context's end, and says whether that has come.
func isOverAfter(ctx context.Context, wait time.Duration) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(wait):
		return false
	}
}

func readLoad(t *testing.T) (streams, retrievers int, seconds, rssMiB float64) {
	t.Helper()
	values := map[string]float64{"streams": 100, "retrievers": 16, "seconds": 3, "rss_mib": 512}
	for _, field := range strings.Fields(os.Getenv("LIGHTMEM_LOAD")) {
		name, text, _ := strings.Cut(field, "=")
		number, err := strconv.ParseFloat(text, 64)
		if _, isKnown := values[name]; !isKnown || err != nil {
			t.Fatalf("LIGHTMEM_LOAD: %q is not one of streams, retrievers, seconds, rss_mib and a number", field)
		}
		values[name] = number
	}
	return int(values["streams"]), int(values["retrievers"]), values["seconds"], values["rss_mib"]
}

// serverMiB is a figure of the server's process: VmRSS, its resident memory, or VmHWM, the most that this ever was. 0: not known.
func serverMiB(t *testing.T, name string) float64 {
	t.Helper()
	content, err := os.ReadFile("/proc/" + os.Getenv("LIGHTMEM_SERVER_PID") + "/status")
	found := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(content)
	if err != nil || found == nil {
		t.Logf("the server's memory is not known: %v", err)
		return 0
	}
	kib, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// wireCounts counts what comes over the wire, before a writer sends anything again.
type wireCounts struct {
	lightmempb.MemoryServiceClient
	open atomic.Int64 // streams that have answered and not ended

	mutex      sync.Mutex
	counts     map[string]int
	unexpected []error
}

// count takes note of a failure, but for what comes of the test's own end.
func (w *wireCounts) count(ctx context.Context, method string, err error) *Error {
	failure := toError(ctx, err)
	if ctx.Err() != nil {
		return failure
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.counts[fmt.Sprintf("%s %s %s", method, failure.Status, failure.Reason)]++
	if failure.Status != codes.ResourceExhausted || failure.RetryAfter == nil {
		w.unexpected = append(w.unexpected, fmt.Errorf("%s: %w", method, failure))
	}
	return failure
}

func (w *wireCounts) Write(ctx context.Context, options ...grpc.CallOption) (lightmempb.MemoryService_WriteClient, error) {
	stream, err := w.MemoryServiceClient.Write(ctx, options...)
	if err != nil {
		w.count(ctx, "Write", err)
		return nil, err
	}
	return &countedWrite{MemoryService_WriteClient: stream, ctx: ctx, counts: w}, nil
}

type countedWrite struct {
	lightmempb.MemoryService_WriteClient
	ctx    context.Context // the caller's: the stream's own is over when the stream has failed
	counts *wireCounts
	isOpen bool
}

func (s *countedWrite) Recv() (*lightmempb.WriteResponse, error) {
	answer, err := s.MemoryService_WriteClient.Recv()
	if isOpen := err == nil; isOpen != s.isOpen {
		s.isOpen = isOpen
		s.counts.open.Add(map[bool]int64{true: 1, false: -1}[isOpen])
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.counts.count(s.ctx, "Write", err)
	}
	return answer, err
}
