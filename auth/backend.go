package auth

import (
	"context"
	"time"
)

// A Backend stores records of keys. Users call [Keys]; authors of backends
// implement this.
//
// Methods may be called concurrently. Each is atomic, and every call that begins
// after it has returned sees its effect, through any other backend on the same
// store. A method that has to wait gives up when ctx ends. The errors named below
// are returned as they are or wrapped; the front end adds what a caller wants to
// know besides.
//
// Times are UTC and whole microseconds and come back as they went in; the zero
// time is none and comes back zero. Arguments are valid as documented by [NewKey]
// and [Key]: a backend may rely on it, and need not check them. What a backend
// returns belongs to the caller, and what it was given it must not keep.
type Backend interface {
	// Insert stores a new record. If there is one of that id it changes nothing and
	// returns ErrConflict.
	Insert(ctx context.Context, r Record) error

	// Lookup returns the record of that id, whether or not it has expired or been
	// revoked, or ErrNotFound.
	Lookup(ctx context.Context, id string) (Record, error)

	// Touch raises LastUsedAt of the record to at. It does nothing if it is later
	// already, or if there is no such record.
	Touch(ctx context.Context, id string, at time.Time) error

	// Revoke sets RevokedAt of the record to at, unless it is set already: the first
	// revocation stays. It returns ErrNotFound if there is no such record.
	Revoke(ctx context.Context, id string, at time.Time) error

	// List returns up to f.Limit keys that match f, expired and revoked ones
	// included, in descending order of id. f.Limit is positive.
	List(ctx context.Context, f Filter) ([]Key, error)

	// Now returns the time of the store's own clock, by which Enrol goes.
	Now(ctx context.Context) (time.Time, error)

	// Enrol stores the key of a worker for the enroller that has the id r.EnrolledBy,
	// and returns it. CreatedAt is the store's own time and Pools are the enroller's,
	// whatever r says. Of the calls at once for one enroller no more succeed than it
	// has uses.
	//
	// A key that the enroller has stored for that worker and hash before, and that is
	// not revoked, is returned as it is, and nothing is stored, whatever has become of
	// the enroller: so a call whose answer was lost can be repeated.
	//
	// Else the error is ErrNotFound if there is no such enroller, or if it has expired,
	// was revoked or has stored as many keys as it has uses, revoked ones included;
	// ErrTaken if the worker has a key that is neither revoked nor expired, or if the
	// enroller has stored that hash for another worker in a key that is not revoked;
	// ErrConflict if there is a record of that id.
	Enrol(ctx context.Context, r Record) (Key, error)
}

// A Record is what a [Backend] stores of a key.
type Record struct {
	Key
	// Hash is the SHA-256 of the secret.
	Hash [32]byte
}

// A Filter says which keys to list.
type Filter struct {
	// Project: only keys of that project. Empty: of all and none.
	Project string
	// Role: only keys of that role. Empty: all.
	Role Role
	// Before is a cursor: only keys with smaller ids. Empty: from the newest on.
	Before string
	// Limit is the largest number of keys, 1 to [MaxPage]. Zero means 50.
	Limit int
}

// MaxPage is the largest page of a list.
const MaxPage = 200
