package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/slipway-build/slipway/auth"
)

const adminKeyVariable = "SLIPWAY_ADMIN_KEY"

// adminKey returns the key of the administrator, and whether it was made here and has to be told to somebody.
func adminKey(s *settings, getenv func(string) string) (key auth.Secret, made bool, err error) {
	name, text := adminKeyVariable, getenv(adminKeyVariable)
	if s.adminKeyFile != "" {
		if text != "" {
			return auth.Secret{}, false, configf("%s and -admin-key-file are both set: keep one of them", adminKeyVariable)
		}
		name = "-admin-key-file"
		if text, err = readKeyFile(s.adminKeyFile); err != nil {
			return auth.Secret{}, false, configf("%s: %w", name, err)
		}
	} else if text == "" && s.dev {
		return auth.GenerateKey(), true, nil
	}
	if err := auth.CheckStrength(text); err != nil {
		return auth.Secret{}, false, configf("%s: %w", name, err)
	}
	return auth.NewSecret(text), false, nil
}

// readKeyFile reads a key that ends with the file or its first line, from a file that only its owner, and perhaps a group, can read.
func readKeyFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode()&fs.ModeType == 0 && info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("%s can be read by everybody: run chmod 600 %s", path, path)
	}
	const most = 1 << 10
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", err
	}
	if len(text) > most {
		return "", errors.New("the file is too long for a key")
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}
