package filestore

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/slipway-build/slipway/storage"
)

// Open implements storage.Backend. The reader goes on when the blob is deleted.
func (b *Backend) Open(ctx context.Context, key storage.Key, offset, length int64) (io.ReadCloser, error) {
	f, err := b.OpenFile(ctx, key)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, offset, length), f}, nil
}

// OpenFile implements storage.FileOpener.
func (b *Backend) OpenFile(_ context.Context, key storage.Key) (*os.File, error) {
	dir, name, err := b.dirOf(key)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	want, err := lstat(dir, name)
	if err != nil {
		return nil, err
	}
	f, err := dir.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, notFound(err)
	}
	// The name may have become a link since, which os.Root would follow.
	if got, err := f.Stat(); err != nil || !os.SameFile(want, got) {
		return nil, errors.Join(errIrregular, err, f.Close())
	}
	return f, nil
}

// Stat implements storage.Backend.
func (b *Backend) Stat(_ context.Context, key storage.Key) (storage.Info, error) {
	dir, name, err := b.dirOf(key)
	if err != nil {
		return storage.Info{}, err
	}
	defer dir.Close()
	fi, err := lstat(dir, name)
	if err != nil {
		return storage.Info{}, err
	}
	return storage.Info{Key: key, Size: fi.Size(), Modified: fi.ModTime()}, nil
}

// Delete implements storage.Backend. It does not wait until the removal is
// durable: after a loss of power the blob may be back.
func (b *Backend) Delete(_ context.Context, key storage.Key) error {
	err := b.remove(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}

func (b *Backend) remove(key storage.Key) error {
	dir, name, err := b.dirOf(key)
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, err := lstat(dir, name); err != nil {
		return err
	}
	return notFound(dir.Remove(name))
}
