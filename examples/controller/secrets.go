package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// A secretsDir has the secrets of each project's builds: a file for each, DIR/PROJECT/NAME. They are read when a build starts, so that a
// file that was changed counts from the next one on.
type secretsDir struct {
	root *os.Root
}

// openSecrets opens a directory of secrets.
func openSecrets(path string) (*secretsDir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		err = checkPrivate(path, info, 0o022)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &secretsDir{root}, nil
}

// checkPrivate returns an error if others have any of those permissions.
func checkPrivate(name string, info fs.FileInfo, perm fs.FileMode) error {
	switch {
	case info.Mode().Perm()&perm == 0:
		return nil
	case info.IsDir():
		return fmt.Errorf("others can write to %s: run chmod go-w on it", name)
	default:
		return fmt.Errorf("others can read %s: run chmod 600 on it", name)
	}
}

// find is for [worker.HubOptions.Secrets]. What is no directory, or no file of its own, of the project is refused: a link could lead to
// another project's secrets.
func (d *secretsDir) find(ctx context.Context, lease queue.Lease) (map[string]worker.Secret, error) {
	info, err := d.root.Lstat(lease.Project)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("secrets of %s: it is not a directory", lease.Project)
	}
	if err := checkPrivate(lease.Project, info, 0o022); err != nil {
		return nil, err
	}
	project, err := d.root.OpenRoot(lease.Project)
	if err != nil {
		return nil, err
	}
	defer project.Close()
	files, err := fs.ReadDir(project.FS(), ".")
	if err != nil {
		return nil, err
	}
	secrets := make(map[string]worker.Secret)
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") {
			continue // of an editor or a tool
		}
		secret, err := readSecret(project, f.Name())
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, fmt.Errorf("secrets of %s: %w", lease.Project, err)
		}
		secrets[f.Name()] = secret
	}
	return secrets, nil
}

// readSecret reads a file, without the end of its line if it has one line only.
func readSecret(dir *os.Root, name string) (worker.Secret, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", name)
	}
	f, err := dir.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	opened, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !os.SameFile(info, opened) {
		return "", fmt.Errorf("%s was replaced while it was read", name)
	}
	if err := checkPrivate(name, opened, 0o077); err != nil {
		return "", err
	}
	content, err := io.ReadAll(io.LimitReader(f, wire.MaxSecretBytes+1))
	if err != nil {
		return "", err
	}
	text := string(content)
	if line := strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r"); !strings.Contains(line, "\n") {
		text = line
	}
	return worker.Secret(text), nil
}

// close closes the directory, if there is one.
func (d *secretsDir) close() error {
	if d == nil {
		return nil
	}
	return d.root.Close()
}
