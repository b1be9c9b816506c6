package storage

import (
	"context"
	"io"
	"os"
	"time"
)

// Backend is where the bytes of a Store live. Users call a Store; authors of
// new backends implement this interface and prove it with storagetest.Run.
//
// A Store promises for every call: the context was not cancelled when the call
// began, a Key is valid, and names, sizes, offsets and limits were checked. A
// backend promises in return:
//
//   - All methods may be called from several goroutines at once, for one key too.
//   - A blob is visible to Open, Stat and List whole or not at all.
//   - Errors that this comment names are returned so that errors.Is finds them;
//     any other error says the backend is in trouble. The Store adds operation
//     and key, so the backend need not.
//   - A method returns soon after its context is cancelled, if it could block
//     for long.
type Backend interface {
	// Put stores the size bytes of r under key.
	//
	// If a blob is already there, Put does not touch r: it returns nil if that
	// blob has size bytes, as durable as one Put itself, and else ErrDigest.
	// A blob is never replaced.
	//
	// Otherwise r delivers exactly size bytes, then io.EOF, or fails: the Store
	// withholds the last bytes until it has verified the whole against the
	// digest. Put reads r until io.EOF, and never after it returned. If r
	// fails, Put publishes nothing, keeps nothing, and returns an error that
	// wraps the one of r. r observes the context.
	//
	// A nil error means that the blob is visible and as durable as the backend
	// gets. If another Put of the key published first, that is success. A Put
	// whose reader is slow must not hold up other calls, not even for that key.
	//
	// Lack of room is ErrNoSpace.
	Put(ctx context.Context, key Key, size int64, r io.Reader) error

	// Open returns a reader of length bytes of the blob from offset on, and
	// then io.EOF. The Store asked Stat before: 0 <= offset, 0 < length, and
	// offset+length is not beyond the size. The reader belongs to one
	// goroutine; it may stop working when ctx is cancelled. When the blob is
	// deleted in the middle, the reader goes on or fails, but never delivers
	// other bytes.
	//
	// An absent blob is ErrNotFound.
	Open(ctx context.Context, key Key, offset, length int64) (io.ReadCloser, error)

	// Stat describes a blob. An absent blob is ErrNotFound.
	Stat(ctx context.Context, key Key) (Info, error)

	// List returns the blobs of page in the order of Key.Compare. A result
	// shorter than page.Limit is the last. Blobs put or deleted while a
	// listing goes on may be in it or not; all others are in it exactly once.
	// What is no blob, such as a stray file, is left out.
	List(ctx context.Context, page Page) ([]Info, error)

	// Delete removes a blob. That it was not there is no error.
	Delete(ctx context.Context, key Key) error
}

// Page is the part of a listing that one Backend.List returns.
type Page struct {
	Project string // only blobs of this project; empty means every project
	After   Key    // only blobs whose key comes after it; the zero Key is the start
	Limit   int    // most blobs to return, 1 to 1000
}

// Info describes a stored blob.
type Info struct {
	Key      Key
	Size     int64     // bytes
	Modified time.Time // when it was put, by the clock of the backend
}

// FileOpener is implemented by a Backend whose blobs are plain files. It lets
// Store.OpenSeeker hand out the file itself, which an HTTP server can send
// without copying it through the process.
type FileOpener interface {
	// OpenFile opens the blob for reading only. An absent blob is ErrNotFound.
	// The caller closes the file.
	OpenFile(ctx context.Context, key Key) (*os.File, error)
}

// Pinger is implemented by a Backend that can tell better than a short List
// whether it is able to serve.
type Pinger interface {
	// Ping returns nil if reading and writing would work now. It returns when
	// ctx is cancelled and is called often.
	Ping(ctx context.Context) error
}
