package filestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	blobsDir = "blobs"
	tempDir  = "tmp"

	// tempAge is when a temporary file is taken for the remains of a crash. A
	// Put keeps its file's time fresh by writing to it.
	tempAge = 24 * time.Hour

	defaultMinFree = 256 << 20
)

// errIrregular is returned for a symbolic link, directory or device where a
// directory or file of the store should be.
var errIrregular = errors.New("neither a blob nor a directory of the store")

// Options are the settings of a Backend. The zero value is ready for use.
type Options struct {
	// MinFreeBytes is the free space, in bytes, that a Put must leave on the
	// file system, counting in full the other Puts of this Backend that are
	// under way; else it fails with storage.ErrNoSpace before it reads
	// anything. Zero means 256 MiB, negative means no guard.
	MinFreeBytes int64
}

// Backend is a storage.Backend in a directory. It also implements
// storage.FileOpener and storage.Pinger. Several Backends, also of several
// processes, may share a directory.
type Backend struct {
	root    *os.Root
	minFree int64

	mu      sync.Mutex
	pending int64 // declared bytes of the Puts under way
}

// New opens the store in dir, which it creates if need be, removes temporary
// files more than a day old and tries out that files can be written and linked.
// A nil o means the defaults. The Backend holds dir open until Close.
func New(dir string, o *Options) (*Backend, error) {
	b := &Backend{minFree: defaultMinFree}
	if o != nil && o.MinFreeBytes != 0 {
		b.minFree = o.MinFreeBytes
	}
	if err := b.open(dir); err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	return b, nil
}

func (b *Backend) open(dir string) error {
	if err := makeAll(dir); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	b.root = root
	if err = b.prepare(); err != nil {
		return errors.Join(err, root.Close())
	}
	return nil
}

func (b *Backend) prepare() error {
	for _, name := range []string{blobsDir, tempDir} {
		dir, err := b.descend(makeDir, name)
		if err != nil {
			return err
		}
		if err := dir.Close(); err != nil {
			return err
		}
	}
	if err := syncDir(b.root); err != nil {
		return err
	}
	if err := b.removeStale(time.Now().Add(-tempAge)); err != nil {
		return err
	}
	return b.probe()
}

// Close releases the directory. It must not be called while other methods run;
// readers that are open go on.
func (b *Backend) Close() error { return b.root.Close() }

// Ping implements storage.Pinger: it writes, links and removes an empty file.
// It does not ask for free space, as a full store still serves what it has.
func (b *Backend) Ping(context.Context) error {
	dir, err := b.descend(openDir, blobsDir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Close(), b.probe())
}

func (b *Backend) probe() error {
	tmp, err := b.descend(openDir, tempDir)
	if err != nil {
		return err
	}
	name := rand.Text()
	err = write(tmp, name, strings.NewReader(""))
	if err == nil {
		err = tmp.Link(name, name+".link")
	}
	return errors.Join(err, removeIfThere(tmp, name+".link"), removeIfThere(tmp, name), tmp.Close())
}

// removeStale removes temporary files last written before deadline.
func (b *Backend) removeStale(deadline time.Time) error {
	tmp, err := b.descend(openDir, tempDir)
	if err != nil {
		return err
	}
	defer tmp.Close()
	names, err := namesIn(tmp)
	if err != nil {
		return err
	}
	for _, name := range names {
		fi, err := tmp.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (fi.IsDir() || fi.ModTime().After(deadline)) {
			continue
		}
		if err := errors.Join(err, removeIfThere(tmp, name)); err != nil {
			return err
		}
	}
	return nil
}

func removeIfThere(dir *os.Root, name string) error {
	if err := dir.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeAll creates dir and its missing parents, durably.
func makeAll(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeAll(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	root, err := os.OpenRoot(parent)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(root), root.Close())
}
