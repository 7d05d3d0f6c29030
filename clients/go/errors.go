package lightmem

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is every failure of this package. Errors that the client finds before it sends anything carry the status that the server
// would have answered.
//
//	if errors.Is(err, lightmem.ErrNotFound) { … }              // by status
//	var failure *lightmem.Error
//	if errors.As(err, &failure) { … failure.Reason … }         // by reason
type Error struct {
	// Status is the canonical gRPC status.
	Status codes.Code
	// Reason is the stable name of the cause, such as "KEY_INVALID"; empty when the server gave none.
	Reason string
	// Message is one sentence for a person.
	Message string
	// Field is the path of the field at fault, such as "turns[0].text"; empty when it isn't about one.
	Field string
	// RetryAfter is how long the server asks to wait; nil when it didn't.
	RetryAfter *time.Duration

	cause error
}

// What errors.Is compares with.
var (
	// ErrInvalidArgument: what was sent cannot be accepted; Field names it.
	ErrInvalidArgument = &Error{Status: codes.InvalidArgument}
	// ErrNotFound: no such record, or not this user's: deliberately the same.
	ErrNotFound = &Error{Status: codes.NotFound}
	// ErrAlreadyExists: a request id that came before with other content; don't retry.
	ErrAlreadyExists = &Error{Status: codes.AlreadyExists}
	// ErrAborted: the record was changed meanwhile: read again, then retry.
	ErrAborted = &Error{Status: codes.Aborted}
	// ErrFailedPrecondition: not in the state that the call needs.
	ErrFailedPrecondition = &Error{Status: codes.FailedPrecondition}
	// ErrUnauthenticated: no key, or one that is unknown, expired or revoked.
	ErrUnauthenticated = &Error{Status: codes.Unauthenticated}
	// ErrPermissionDenied: a good key, but not for this.
	ErrPermissionDenied = &Error{Status: codes.PermissionDenied}
	// ErrOverloaded: a limit is reached; RetryAfter says how long to wait.
	ErrOverloaded = &Error{Status: codes.ResourceExhausted}
	// ErrUnavailable: no server there, starting, draining, or its disk failed.
	ErrUnavailable = &Error{Status: codes.Unavailable}
	// ErrDeadlineExceeded: the time passed; whether the call took effect is not known.
	ErrDeadlineExceeded = &Error{Status: codes.DeadlineExceeded}
	// ErrCancelled: the call was cancelled, or its client closed.
	ErrCancelled = &Error{Status: codes.Canceled}
	// ErrUnimplemented: in the API, but not in this version of the server.
	ErrUnimplemented = &Error{Status: codes.Unimplemented}
	// ErrWriteAbandoned: an earlier request of the same writer failed; this one was not acknowledged.
	ErrWriteAbandoned = &Error{Status: codes.Aborted, Reason: "WRITE_ABANDONED"}
	// ErrInternal: a defect of the server or of the client.
	ErrInternal = &Error{Status: codes.Internal}
)

// Error says what happened.
func (e *Error) Error() string {
	name := e.Status.String()
	if e.Reason != "" {
		name += " (" + e.Reason + ")"
	}
	return name + ": " + e.Message
}

// Is compares with the Err… values: by status, and by reason where they have one.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	if !ok || e.Status != other.Status {
		return false
	}
	if other.Reason == "" {
		return e.Reason != ErrWriteAbandoned.Reason
	}
	return e.Reason == other.Reason
}

// Unwrap gives what caused it: the context's error, or that of the request that failed before.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus makes it known to package google.golang.org/grpc/status.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Status, e.Message) }

func newError(kind *Error, reason, format string, values ...any) *Error {
	return &Error{Status: kind.Status, Reason: reason, Message: fmt.Sprintf(format, values...)}
}

// cancelled is the failure of what its caller gave up.
func cancelled(ctx context.Context) *Error {
	failure := newError(ErrCancelled, "CANCELLED", "the call was cancelled")
	failure.cause = context.Cause(ctx)
	return failure
}

func invalid(field, reason, format string, values ...any) *Error {
	failure := newError(ErrInvalidArgument, reason, field+": "+format, values...)
	failure.Field = field
	return failure
}

// toError gives the typed error of a failed call; details that don't parse are left out.
func toError(ctx context.Context, err error) *Error {
	if known, ok := err.(*Error); ok {
		return known
	}
	answer := status.Convert(err)
	failure := &Error{Status: answer.Code(), Message: answer.Message(), cause: context.Cause(ctx)}
	for _, detail := range answer.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.Reason = detail.GetReason()
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				failure.Field = violations[0].GetField()
			}
		case *errdetails.RetryInfo:
			wait := detail.GetRetryDelay().AsDuration()
			failure.RetryAfter = &wait
		}
	}
	if failure.Reason == "" {
		switch failure.Status {
		case codes.Unavailable: // gRPC's own, which speaks of sockets
			failure.Reason, failure.Message = "UNREACHABLE", "no server could be reached: "+failure.Message
		case codes.DeadlineExceeded:
			failure.Reason = "DEADLINE_EXCEEDED"
			failure.Message = "no answer in time; whether the call took effect is not known"
		case codes.Canceled:
			failure.Reason = "CANCELLED"
			if strings.Contains(failure.Message, "client connection is closing") { // gRPC has no other sign of it
				failure.Reason, failure.Message = "CLOSED", "the client is closed"
			}
		}
	}
	return failure
}

// isTransient says whether the same call may succeed later: no server there, or one that says when to come back.
func (e *Error) isTransient() bool {
	if e.Status == codes.ResourceExhausted {
		return e.RetryAfter != nil // without: a message too large, which stays so
	}
	return e.Status == codes.Unavailable
}
