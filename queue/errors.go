package queue

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that callers may test for with [errors.Is]. Every error of a [Queue], but for those of [Queue.Prepare], is an [*Error] around
// one of them, around a context's error, or around something unexpected that a backend met.
var (
	// ErrInvalid says that an argument breaks a documented rule. Its text names the argument and the rule, holds nothing
	// internal, and may be shown to whoever sent the argument.
	ErrInvalid = errors.New("invalid argument")
	// ErrNotFound says that there is no such object in that project.
	ErrNotFound = errors.New("not found")
	// ErrStaleLease says that (build, epoch) is not, or no longer, leased: the caller must stop what it does for that attempt.
	ErrStaleLease = errors.New("stale lease")
	// ErrFinished says that the build has already come to its end.
	ErrFinished = errors.New("build has finished")
	// ErrConflict says that an object of that name exists with other content.
	ErrConflict = errors.New("conflict")
	// ErrGap says that a log write started after the end of what is stored. The stored length tells where to go on.
	ErrGap = errors.New("log gap")
	// ErrQuota says that a project has no room for what was asked for.
	ErrQuota = errors.New("quota exceeded")
	// ErrUnavailable says that the backend could not be reached, or has no room at the moment. Whether a change was made is not
	// known; the call may be made again.
	ErrUnavailable = errors.New("queue unavailable")
)

// An Error tells which operation failed, on which build, and why.
type Error struct {
	Op  string // the method of Queue: "submit", "finish", …
	ID  ID     // the build, or the zero ID
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("queue: ")
	b.WriteString(e.Op)
	if !e.ID.IsZero() {
		b.WriteString(" " + e.ID.String())
	}
	b.WriteString(": " + e.Err.Error())
	return b.String()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// wrap puts err under the operation it happened in; nil stays nil.
func wrap(op string, id ID, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, ID: id, Err: err}
}

// invalid makes an error of [ErrInvalid] that names what is wrong and the rule it breaks.
func invalid(what, rule string, args ...any) error {
	return fmt.Errorf("%w: %s %s", ErrInvalid, what, fmt.Sprintf(rule, args...))
}

// wrapItem tells which of several items err is about.
func wrapItem(i int, err error) error { return fmt.Errorf("item %d: %w", i, err) }
