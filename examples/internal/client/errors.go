package client

import (
	"errors"
	"net/http"
	"time"

	"github.com/slipway-build/slipway/worker"
)

// Errors besides those of packages queue and worker that a controller refuses with.
var (
	// ErrUnreachable says that no answer came: the controller is down, or is not where it is looked for.
	ErrUnreachable = errors.New("no answer")
	// ErrDamaged says that bytes came which are not those that were stored.
	ErrDamaged = errors.New("content does not match its length or SHA-256")
)

// An Error tells which operation failed and why. Every error of a [Client] is one.
type Error struct {
	Op  string // "submit", "read log", …
	Err error  // a [*worker.Problem], or what wraps [ErrUnreachable], [ErrDamaged] or a context's error

	after time.Duration // how long the controller asked to wait
}

// Error returns "op: cause".
func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// temporary reports whether the same request may get through a little later.
func temporary(err error) bool {
	if errors.Is(err, ErrUnreachable) {
		return true
	}
	p, ok := errors.AsType[*worker.Problem](err)
	if !ok {
		return false
	}
	switch p.Status {
	case http.StatusNotImplemented, http.StatusInsufficientStorage:
		return false
	default:
		return p.Status == http.StatusTooManyRequests || p.Status >= http.StatusInternalServerError
	}
}
