package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// plant writes files below a directory: of the permissions that the name ends with after a "|", else 600. A content that begins with ->
// is a symbolic link.
func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		perm := os.FileMode(0o600)
		if plain, octal, ok := strings.Cut(name, "|"); ok {
			name = plain
			if _, err := fmt.Sscanf(octal, "%o", &perm); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if target, ok := strings.CutPrefix(content, "->"); ok && err == nil {
			err = os.Symlink(target, path)
		} else if err == nil {
			if err = os.WriteFile(path, []byte(content), 0o600); err == nil {
				err = os.Chmod(path, perm)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecretsDir(t *testing.T) {
	for name, tt := range map[string]struct {
		files   map[string]string
		project string
		want    map[string]string
		refused string // a part of the error; empty: none
	}{
		"a project's own": {
			map[string]string{"acme/A": "value-a", "acme/B": "value-b\n", "other/A": "canary"},
			"acme",
			map[string]string{"A": "value-a", "B": "value-b"},
			"",
		},
		"a project without": {map[string]string{"other/A": "canary"}, "acme", nil, ""},
		"lines":             {map[string]string{"acme/KEY": "one\ntwo\n", "acme/DOS": "line\r\n"}, "acme", map[string]string{"KEY": "one\ntwo\n", "DOS": "line"}, ""},
		"hidden files":      {map[string]string{"acme/.A.swp|644": "canary", "acme/A": "value-a"}, "acme", map[string]string{"A": "value-a"}, ""},
		"group can read":    {map[string]string{"acme/A|640": "canary"}, "acme", nil, "others can read A: run chmod 600 on it"},
		"others can read":   {map[string]string{"acme/A|604": "canary"}, "acme", nil, "others can read A"},
		"others can write":  {map[string]string{"acme/A|602": "canary"}, "acme", nil, "others can read A"},
		"link to another":   {map[string]string{"acme/A": "->../other/A", "other/A": "canary"}, "acme", nil, "A is not a regular file"},
		"link within":       {map[string]string{"acme/A": "->B", "acme/B": "canary"}, "acme", nil, "A is not a regular file"},
		"linked project":    {map[string]string{"acme": "->other", "other/A": "canary"}, "acme", nil, "secrets of acme: it is not a directory"},
		"linked root":       {map[string]string{"acme": "->.", "A": "canary"}, "acme", nil, "secrets of acme: it is not a directory"},
		"directory":         {map[string]string{"acme/A/B": "canary"}, "acme", nil, "A is not a regular file"},
		"a file as project": {map[string]string{"acme": "canary"}, "acme", nil, "it is not a directory"},
		"way up":            {map[string]string{"A": "canary"}, "..", nil, "escapes"},
		"the root itself":   {map[string]string{"A": "canary"}, "x/..", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			plant(t, dir, tt.files)
			secrets, err := openSecrets(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer secrets.close()
			got, err := secrets.find(t.Context(), queue.Lease{Project: tt.project})
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) || strings.Contains(err.Error(), "canary") || got != nil {
					t.Errorf("found %d, %v; want an error that says %q", len(got), err, tt.refused)
				}
				return
			}
			if err != nil || len(got) != len(tt.want) {
				t.Fatalf("found %d, %v; want %d", len(got), err, len(tt.want))
			}
			for name, value := range tt.want {
				if string(got[name]) != value {
					t.Errorf("%s is %q, want %q", name, string(got[name]), value)
				}
			}
		})
	}
}

func TestSecretsDirIsPrivate(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, map[string]string{"acme/A": "canary"})
	secrets, err := openSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer secrets.close()
	if err := os.Chmod(filepath.Join(dir, "acme"), 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.find(t.Context(), queue.Lease{Project: "acme"}); err == nil || !strings.Contains(err.Error(), "others can write to acme") {
		t.Errorf("a directory of everybody's: %v", err)
	}
	if err := os.Chmod(dir, 0o722); err != nil {
		t.Fatal(err)
	}
	if _, err := openSecrets(dir); err == nil || !strings.Contains(err.Error(), "others can write to "+dir) {
		t.Errorf("a root of everybody's: %v", err)
	}
	launch(t, []string{adminKeyVariable + "=" + goodKey}, "-secrets-dir", dir).wantRefusal(3, "-secrets-dir")
	launch(t, []string{adminKeyVariable + "=" + goodKey}, "-secrets-dir", filepath.Join(dir, "none")).wantRefusal(3, "-secrets-dir")
}

// TestSecretsDirBounds: what cannot be sent is refused by its size, and not read to its end.
func TestSecretsDirBounds(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, map[string]string{"acme/A": strings.Repeat("x", 10*wire.MaxSecretBytes)})
	secrets, err := openSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer secrets.close()
	got, err := secrets.find(t.Context(), queue.Lease{Project: "acme"})
	if err != nil || len(got["A"]) != wire.MaxSecretBytes+1 {
		t.Errorf("%d bytes, %v", len(got["A"]), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := secrets.find(ctx, queue.Lease{Project: "acme"}); err == nil {
		t.Error("found after the time was up")
	}
}
