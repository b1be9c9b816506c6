package queue

import (
	"context"
	"io"
)

// A LogArchive keeps the logs of attempts that have ended, as objects whose inside is the Queue's affair. A few lines make one of a
// storage.Store. It is safe for concurrent use.
type LogArchive interface {
	// Put stores an object of size bytes, wholly or not at all, in place of one that may be there.
	Put(ctx context.Context, project string, id AttemptID, object io.Reader, size int64) error

	// Open returns length bytes of an object from offset on; fewer if it ends before. An error for which
	// errors.Is(err, fs.ErrNotExist) says that there is none.
	Open(ctx context.Context, project string, id AttemptID, offset, length int64) (io.ReadCloser, error)

	// Delete removes an object. It is no error if there is none.
	Delete(ctx context.Context, project string, id AttemptID) error
}
