package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// files returns the slash-separated names, sorted, of what below dir is to be packed, apart from directories.
func files(ctx context.Context, dir string, o *Options) ([]string, error) {
	git := ""
	if !o.Everything && inCheckout(dir) {
		git, _ = exec.LookPath("git") // without it everything is packed
	}
	names, err := list(ctx, git, dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return slices.Compact(names), nil // a file in the middle of a merge is listed more than once
}

// inCheckout reports whether dir or one of its parents is the top of a git checkout.
func inCheckout(dir string) bool {
	for {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return false
		}
		dir = parent
	}
}

func list(ctx context.Context, git, dir string) ([]string, error) {
	if git == "" {
		return walk(dir)
	}
	listed, err := lsFiles(ctx, git, dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range listed {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// tracked, but not there any more
		case err != nil:
			return nil, err
		case info.IsDir():
			inner, err := listInner(ctx, git, filepath.Join(dir, filepath.FromSlash(name)))
			if err != nil {
				return nil, err
			}
			for _, below := range inner {
				names = append(names, path.Join(name, below))
			}
		default:
			names = append(names, name)
		}
	}
	return names, nil
}

// listInner lists a directory that git names as one thing: a submodule, or another checkout.
func listInner(ctx context.Context, git, dir string) ([]string, error) {
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err != nil {
		return walk(dir)
	}
	return list(ctx, git, dir)
}

func lsFiles(ctx context.Context, git, dir string) ([]string, error) {
	cmd := exec.CommandContext(ctx, git, "-C", dir, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	cmd.Env = slices.DeleteFunc(os.Environ(), aboutAnotherCheckout)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return nil, fmt.Errorf("%w of %s: %w: %s", ErrGit, dir, err, said)
	}
	return strings.FieldsFunc(stdout.String(), func(r rune) bool { return r == 0 }), nil
}

// aboutAnotherCheckout reports whether a variable would turn git away from the directory it is asked about, as in a hook.
func aboutAnotherCheckout(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	switch name {
	case "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE":
		return true
	default:
		return false
	}
}

// walk lists everything below dir but what is in .git.
func walk(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".git" && p != dir:
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		name, err := filepath.Rel(dir, p)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	return names, err
}
