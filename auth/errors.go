package auth

import (
	"errors"
	"fmt"
)

// Errors to test for with [errors.Is].
var (
	// ErrUnauthenticated says that there is no valid credential: none at all, or
	// one that is malformed, unknown, wrong, expired or revoked.
	ErrUnauthenticated = errors.New("unauthenticated")

	// ErrForbidden says that the role of the caller does not allow the operation.
	ErrForbidden = errors.New("forbidden")

	// ErrNotFound says that there is no such object for this caller. Objects of
	// projects that are not the caller's do not exist.
	ErrNotFound = errors.New("not found")

	// ErrInvalid says that an argument breaks a documented rule. Its text names the
	// argument and the rule, and may be shown to whoever sent the argument.
	ErrInvalid = errors.New("invalid argument")

	// ErrWeakKey says that a key set by hand is too easy to guess. Its text tells
	// why and how to make a better one, never the key.
	ErrWeakKey = errors.New("weak key")

	// ErrTaken says that a worker has a key, so that nobody can enrol by its name.
	ErrTaken = errors.New("the worker has a key already")

	// ErrConflict is what a backend answers when a record of that id exists.
	ErrConflict = errors.New("key exists")
)

// An Error tells which operation failed, on which key, and why. Every error of
// [New] and of a method of [Keys] is one. Its text is for the operator's log: it
// holds no secret, but may hold what a backend said.
type Error struct {
	Op    string // "authenticate", "create", "enrol", "list", "new" or "revoke"
	KeyID string // the key; empty if it is not known
	Err   error  // never nil
}

// Error returns "auth: op key: cause".
func (e *Error) Error() string {
	if e.KeyID == "" {
		return "auth: " + e.Op + ": " + e.Err.Error()
	}
	return "auth: " + e.Op + " " + e.KeyID + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func wrap(op, keyID string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, KeyID: keyID, Err: err}
}

func invalid(what, rule string, args ...any) error {
	return fmt.Errorf("%w: %s %s", ErrInvalid, what, fmt.Sprintf(rule, args...))
}
