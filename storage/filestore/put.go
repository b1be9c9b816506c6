package filestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/slipway-build/slipway/internal/disk"
	"github.com/slipway-build/slipway/storage"
)

// Put implements storage.Backend, in the order the package comment gives.
func (b *Backend) Put(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
	err := b.settle(ctx, key, size)
	if errors.Is(err, storage.ErrNotFound) {
		err = b.add(ctx, key, size, r)
	}
	return noSpace(err)
}

// add is Put of a blob that was not there.
func (b *Backend) add(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
	release, err := b.reserve(size)
	if err != nil {
		return err
	}
	defer release()
	if err := b.publish(key, r); err != nil {
		return err
	}
	err = b.settle(ctx, key, size)
	if errors.Is(err, storage.ErrNotFound) {
		return errors.New("deleted while it was put")
	}
	return err
}

// settle makes sure that the blob is there, has that size and is durable.
// Whoever published it synced the file before, but maybe not yet the
// directories above it.
func (b *Backend) settle(ctx context.Context, key storage.Key, size int64) error {
	info, err := b.Stat(ctx, key)
	if err != nil {
		return err
	}
	if info.Size != size {
		return fmt.Errorf("%w: %d bytes are declared, %d are stored", storage.ErrDigest, size, info.Size)
	}
	dirs, _ := split(key)
	dir, err := b.descend(openSynced, dirs...)
	if err != nil {
		return err
	}
	return dir.Close()
}

// publish writes r to a temporary file and links it to the name of key. What is
// there under that name already stays.
func (b *Backend) publish(key storage.Key, r io.Reader) (err error) {
	tmp, err := b.descend(openDir, tempDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tmp.Close()) }()
	name := rand.Text()
	// If this fails, New will remove the file some day.
	defer func() { _ = tmp.Remove(name) }()
	if err := write(tmp, name, r); err != nil {
		return err
	}
	dirs, _ := split(key)
	dir, err := b.descend(makeDir, dirs...)
	if err != nil {
		return err
	}
	if err := dir.Close(); err != nil {
		return err
	}
	err = b.root.Link(tempDir+"/"+name, blobsDir+"/"+key.String())
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// write creates the file name in dir with the bytes of r, durably.
func write(dir *os.Root, name string, r io.Reader) (err error) {
	f, err := dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Sync()
}

// reserve fails if size bytes more would leave less than the minimum free.
func (b *Backend) reserve(size int64) (release func(), err error) {
	if b.minFree < 0 {
		return func() {}, nil
	}
	free, err := disk.Free(b.root)
	if errors.Is(err, errors.ErrUnsupported) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := free - b.pending - b.minFree; size > room {
		return nil, fmt.Errorf("%w: %d bytes are declared, %d may still be used", storage.ErrNoSpace, size, max(room, 0))
	}
	b.pending += size
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.pending -= size
	}, nil
}
