package storeblobs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/worker"
)

// New returns store as a hub sees it. It holds nothing of its own: whatever store has, others that use it have too.
func New(store *storage.Store) worker.Blobs { return blobs{store} }

type blobs struct{ store *storage.Store }

// Put implements [worker.Blobs].
func (b blobs) Put(ctx context.Context, project string, digest queue.Digest, size int64, r io.Reader) error {
	return meaning(b.store.Put(ctx, project, storage.Blob{Digest: storage.Digest(digest), Size: size}, r))
}

// Open implements [worker.Blobs].
func (b blobs) Open(ctx context.Context, project string, digest queue.Digest) (io.ReadSeekCloser, error) {
	r, err := b.store.OpenSeeker(ctx, project, storage.Digest(digest))
	return r, meaning(err)
}

// Stat implements [worker.Blobs].
func (b blobs) Stat(ctx context.Context, project string, digest queue.Digest) (int64, error) {
	info, err := b.store.Stat(ctx, project, storage.Digest(digest))
	return info.Size, meaning(err)
}

// meaning puts an error of the storage under the one that it is to a hub.
func meaning(err error) error {
	for _, m := range []struct{ err, means error }{
		{storage.ErrNotFound, worker.ErrBlobNotFound},
		{storage.ErrInvalid, queue.ErrInvalid},
		{storage.ErrTooLarge, worker.ErrBlobTooLarge},
		{storage.ErrDigest, worker.ErrBlobMismatch},
		{storage.ErrNoSpace, worker.ErrNoSpace},
	} {
		if errors.Is(err, m.err) {
			return fmt.Errorf("%w: %w", m.means, err)
		}
	}
	return err
}
