package procexec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/slipway-build/slipway/worker"
)

// collect returns the regular files below source that one of the patterns names, each once and sorted by name.
// What was left out is said in the log. Closing stop ends the search with what was found so far.
// Only files of the owner are taken, if there is one.
func collect(source string, owner *account, patterns []string, log *buildLog, stop <-chan struct{}) []worker.File {
	if len(patterns) == 0 {
		return nil
	}
	root, err := os.OpenRoot(source)
	if err != nil {
		log.notice("no artifacts: the source directory cannot be opened: %v", reason(err))
		return nil
	}
	defer root.Close()
	s := search{log: log, owner: owner, found: make([]int, len(patterns)), stop: stop}
	for _, pattern := range patterns {
		g, _ := parseGlob(pattern) // was checked with the spec
		s.globs = append(s.globs, g)
	}
	_ = fs.WalkDir(root.FS(), ".", s.visit) // visit notes errors in the log and returns none
	for i, pattern := range patterns {
		if s.found[i] == 0 {
			log.notice("artifact %q matches no regular file", pattern)
		}
	}
	files := make([]worker.File, len(s.names))
	slices.Sort(s.names)
	for i, name := range s.names {
		files[i] = worker.File{Name: name, Path: filepath.Join(source, filepath.FromSlash(name))}
	}
	return files
}

// A search is one walk through a source directory. The walk reads directories through an [os.Root] and follows no symbolic link.
type search struct {
	globs []glob
	found []int // per glob
	names []string
	log   *buildLog
	owner *account
	stop  <-chan struct{}
}

func (s *search) visit(name string, d fs.DirEntry, err error) error {
	select {
	case <-s.stop:
		return fs.SkipAll
	default:
	}
	switch {
	case err != nil:
		s.log.notice("artifacts: %q cannot be read: %v", name, reason(err))
		return fs.SkipDir
	case d.IsDir():
		if !slices.ContainsFunc(s.globs, func(g glob) bool { return g.below(name) }) {
			return fs.SkipDir
		}
		return nil
	}
	matched := false
	for i, g := range s.globs {
		if g.match(name) {
			matched = true
			if d.Type().IsRegular() {
				s.found[i]++
			}
		}
	}
	switch {
	case !matched:
	case !d.Type().IsRegular():
		s.log.notice("artifact %q is left out: it is not a regular file", name)
	case !s.owner.owns(d):
		s.log.notice("artifact %q is left out: it does not belong to the build's user", name)
	case !fs.ValidPath(name):
		s.log.notice("artifact %q is left out: its name is not valid UTF-8", name)
	default:
		s.names = append(s.names, name)
	}
	return nil
}

// reason returns what is behind a *PathError, whose path is said already.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
