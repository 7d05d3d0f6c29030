package lightmem

import (
	"context"
	"math/rand/v2"
	"time"
)

// RetryPolicy is how often and how fast a call is repeated that may be. Waits double, with jitter, within the call's time.
type RetryPolicy struct {
	// MaxAttempts is the most tries of one call, the first included. 1: none is repeated.
	MaxAttempts int
	// Initial is the longest first wait.
	Initial time.Duration
	// Max is the longest wait.
	Max time.Duration
}

// DefaultRetryPolicy is what a client has that was given no other.
var DefaultRetryPolicy = RetryPolicy{MaxAttempts: 5, Initial: 100 * time.Millisecond, Max: 2 * time.Second}

// wait is how long to wait after so many failures in a row, at least as long as the server asks for.
func (p RetryPolicy) wait(failures int, failure *Error) time.Duration {
	longest := min(p.Max, p.Initial<<min(failures-1, 30))
	if longest <= 0 {
		longest = p.Max
	}
	wait := longest/2 + time.Duration(rand.Int64N(int64(longest/2)+1))
	if failure.RetryAfter != nil {
		wait = max(wait, *failure.RetryAfter)
	}
	return wait
}

// sleep waits, and is false when the wait would not end before the context does.
func sleep(ctx context.Context, wait time.Duration) bool {
	if deadline, has := ctx.Deadline(); has && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// repeat runs attempts until one succeeds, fails for good, or time or attempts are used up: then the last error is returned.
func (c *Client) repeat(ctx context.Context, isRepeatable bool, attempt func(context.Context) error) error {
	for failures := 1; ; failures++ {
		attemptContext, err := c.authorize(ctx)
		if err != nil {
			return err
		}
		err = attempt(attemptContext)
		if err == nil {
			return nil
		}
		failure := toError(ctx, err)
		if !isRepeatable || !failure.isTransient() || failures >= c.retry.MaxAttempts {
			return failure
		}
		if !sleep(ctx, c.retry.wait(failures, failure)) {
			if ctx.Err() == context.Canceled {
				return cancelled(ctx)
			}
			return failure
		}
	}
}
