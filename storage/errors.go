package storage

import "errors"

// The errors a Store and its Backend answer with. Test for them with errors.Is.
var (
	// ErrNotFound: no blob is stored under this digest in this project.
	// Another project's blob does not exist either.
	ErrNotFound = errors.New("blob not found")

	// ErrInvalid: a project name, digest, key, size or offset is malformed.
	// It is decided before the backend is asked.
	ErrInvalid = errors.New("invalid argument")

	// ErrTooLarge: the declared size is over Options.MaxBlobBytes. Nothing
	// was read.
	ErrTooLarge = errors.New("blob too large")

	// ErrDigest: content does not match its declared size or digest, be it
	// on the way in or on the way out.
	ErrDigest = errors.New("content does not match its declared size or digest")

	// ErrNoSpace: the backend has no room for the blob. Over HTTP this is
	// status 507.
	ErrNoSpace = errors.New("no space left for the blob")
)

// Error is what every failing method of a Store returns. Its text is meant for
// the operator's log: it may hold paths and other facts of the backend, which a
// remote client must not see.
type Error struct {
	Op  string // put, open, read, stat, delete, list or ping
	Key string // the key, or the project of a list; empty if it was invalid
	Err error  // the cause, never nil
}

// Error returns "storage: op key: cause".
func (e *Error) Error() string {
	if e.Key == "" {
		return "storage: " + e.Op + ": " + e.Err.Error()
	}
	return "storage: " + e.Op + " " + e.Key + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
