package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// readSecret reads what is named by what from a file that not everybody can read. The path "-" is standard input.
func readSecret(path, what string) (string, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return "", fmt.Errorf("cannot read the %s: %w", what, err)
		}
		defer f.Close()
	}
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot read the %s: %w", what, err)
	}
	if path != "-" && info.Mode()&fs.ModeType == 0 && info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("the %s in %s can be read by everybody: run chmod 600 %s", what, path, path)
	}
	const most = 4 << 10
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return "", fmt.Errorf("cannot read the %s: %w", what, err)
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "", fmt.Errorf("the file %s is empty: it must hold the %s", path, what)
	}
	return text, nil
}

// writeSecret puts a line into a file that only its owner can read. Whenever the machine stops, the file has all of it or is as it was. A
// file that is there is replaced, or else an error that wraps [fs.ErrExist].
func writeSecret(path, text string, replace bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".slipway-agent-") // with 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = moveSecret(f.Name(), path, replace)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// moveSecret gives a file another name in its directory, where one that is there is replaced, or else an error that wraps [fs.ErrExist].
func moveSecret(from, to string, replace bool) error {
	if replace {
		if err := os.Rename(from, to); err != nil {
			return err
		}
	} else if err := os.Link(from, to); err != nil {
		return err
	} else if err := os.Remove(from); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
