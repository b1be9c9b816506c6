package memstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/slipway-build/slipway/storage"
)

// Backend is a storage.Backend in memory.
type Backend struct {
	mu    sync.RWMutex
	blobs map[storage.Key]blob
}

type blob struct {
	data     []byte // never written to again
	modified time.Time
}

// New returns an empty Backend.
func New() *Backend {
	return &Backend{blobs: make(map[storage.Key]blob)}
}

// Put implements storage.Backend. The memory it takes grows with the bytes that
// arrive, not with the declared size.
func (b *Backend) Put(_ context.Context, key storage.Key, size int64, r io.Reader) error {
	if old, ok := b.blob(key); ok {
		return checkSize(old, size)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.blobs[key]; ok {
		return checkSize(old, size)
	}
	b.blobs[key] = blob{data: data, modified: time.Now()}
	return nil
}

func checkSize(old blob, size int64) error {
	if stored := int64(len(old.data)); stored != size {
		return fmt.Errorf("%w: %d bytes are declared, %d are stored", storage.ErrDigest, size, stored)
	}
	return nil
}

// Open implements storage.Backend.
func (b *Backend) Open(_ context.Context, key storage.Key, offset, length int64) (io.ReadCloser, error) {
	found, ok := b.blob(key)
	if !ok {
		return nil, storage.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(found.data[offset:][:length])), nil
}

// Stat implements storage.Backend.
func (b *Backend) Stat(_ context.Context, key storage.Key) (storage.Info, error) {
	found, ok := b.blob(key)
	if !ok {
		return storage.Info{}, storage.ErrNotFound
	}
	return found.info(key), nil
}

// List implements storage.Backend. It sorts all keys for each page.
func (b *Backend) List(_ context.Context, page storage.Page) ([]storage.Info, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var infos []storage.Info
	for _, key := range slices.SortedFunc(maps.Keys(b.blobs), storage.Key.Compare) {
		switch {
		case len(infos) == page.Limit:
			return infos, nil
		case page.Project != "" && page.Project != key.Project():
		case key.Compare(page.After) > 0:
			infos = append(infos, b.blobs[key].info(key))
		}
	}
	return infos, nil
}

// Delete implements storage.Backend. Open readers go on.
func (b *Backend) Delete(_ context.Context, key storage.Key) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.blobs, key)
	return nil
}

func (b *Backend) blob(key storage.Key) (blob, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	found, ok := b.blobs[key]
	return found, ok
}

func (b blob) info(key storage.Key) storage.Info {
	return storage.Info{Key: key, Size: int64(len(b.data)), Modified: b.modified}
}
