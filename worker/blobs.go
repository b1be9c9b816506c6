package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/slipway-build/slipway/queue"
)

// Blobs keeps the bytes of sources and artifacts for a [Hub]. Package storeblobs makes one of a storage.Store.
// Its methods may be called concurrently.
//
// Errors are those declared here; what else goes wrong is the storage's own trouble, which passes.
type Blobs interface {
	// Put stores size bytes from r under their SHA-256 within a project, wholly or not at all. If they are there already
	// it returns nil without reading r. Errors: [ErrBlobMismatch], [ErrBlobTooLarge], [ErrNoSpace].
	Put(ctx context.Context, project string, digest queue.Digest, size int64, r io.Reader) error
	// Open returns the bytes. The caller closes them. Errors: [ErrBlobNotFound].
	Open(ctx context.Context, project string, digest queue.Digest) (io.ReadSeekCloser, error)
	// Stat returns how many bytes there are. Errors: [ErrBlobNotFound].
	Stat(ctx context.Context, project string, digest queue.Digest) (size int64, err error)
}

// Errors that a [Blobs] wraps.
var (
	// ErrBlobNotFound says that the bytes are not there. It is a [fs.ErrNotExist], but not every one of those is this: the socket
	// of a database that is being restarted does not exist either.
	ErrBlobNotFound = fmt.Errorf("no such content: %w", fs.ErrNotExist)
	// ErrBlobMismatch says that the bytes did not have the declared size or digest.
	ErrBlobMismatch = errors.New("content does not match its size or digest")
	// ErrBlobTooLarge says that the declared size is above what the storage takes.
	ErrBlobTooLarge = errors.New("content is too large")
	// ErrNoSpace says that the storage is full.
	ErrNoSpace = errors.New("no space left in the storage")
)

// An Identity is who a worker's credential was given for, and which pools it may serve.
type Identity struct {
	Worker string
	Pools  []string
}
