package filestore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/slipway-build/slipway/storage"
)

// List implements storage.Backend. It holds the names of one directory at a
// time, about one part in 256 of a project.
func (b *Backend) List(ctx context.Context, page storage.Page) ([]storage.Info, error) {
	projects := []string{page.Project}
	if page.Project == "" {
		var err error
		if projects, err = b.names(blobsDir); err != nil {
			return nil, err
		}
	}
	l := listing{backend: b, page: page, after: page.After.String()}
	for _, project := range projects {
		if l.full() {
			break
		}
		if err := l.project(ctx, project); err != nil {
			return nil, err
		}
	}
	return l.infos, nil
}

type listing struct {
	backend *Backend
	page    storage.Page
	after   string
	infos   []storage.Info
}

func (l *listing) full() bool { return len(l.infos) == l.page.Limit }

// over reports whether all keys that begin with prefix are on earlier pages.
func (l *listing) over(prefix string) bool {
	return l.after > prefix && !strings.HasPrefix(l.after, prefix)
}

func (l *listing) project(ctx context.Context, project string) error {
	if _, err := storage.NewKey(project, storage.Digest{}); err != nil || l.over(project+"/") {
		return nil //nolint:nilerr // what is no project's directory is left out
	}
	shards, err := l.backend.names(blobsDir, project)
	if err != nil {
		return err
	}
	for _, shard := range shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.full() || l.over(project+"/"+shard+"/") {
			continue
		}
		if err := l.shard(project, shard); err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) shard(project, shard string) error {
	dir, err := l.backend.descend(openDir, blobsDir, project, shard)
	if isNoDir(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := sortedNames(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		key, err := storage.ParseKey(project + "/" + shard + "/" + name)
		if err != nil || key.String() <= l.after {
			continue
		}
		if l.full() {
			return nil
		}
		fi, err := lstat(dir, name)
		switch {
		case err == nil:
			l.infos = append(l.infos, storage.Info{Key: key, Size: fi.Size(), Modified: fi.ModTime()})
		case errors.Is(err, storage.ErrNotFound), errors.Is(err, errIrregular):
		default:
			return err
		}
	}
	return nil
}

// names returns the names in a directory in the order of Key.Compare, or none
// if it is not there.
func (b *Backend) names(dirs ...string) ([]string, error) {
	dir, err := b.descend(openDir, dirs...)
	if isNoDir(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return sortedNames(dir)
}

func sortedNames(dir *os.Root) ([]string, error) {
	names, err := namesIn(dir)
	// The slash that follows a name in a key counts too: "a-b/" < "a/".
	slices.SortFunc(names, func(x, y string) int { return strings.Compare(x+"/", y+"/") })
	return names, err
}

func isNoDir(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errIrregular)
}
