package worker

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestUnpack holds what an agent makes of a source against what it may be; package archive has the formats and what is evil in them.
func TestUnpack(t *testing.T) {
	var zipped, tarred bytes.Buffer
	z := zip.NewWriter(&zipped)
	content := bytes.Repeat([]byte("x"), 100)
	f, err := z.Create("d/f")
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(&tarred)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	for _, write := range []func() error{
		func() error { _, err := f.Write(content); return err },
		z.Close,
		func() error { _, err := w.Write(content); return err },
		w.Close,
	} {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(ErrCanceled)
	enough := UnpackLimits{Bytes: 100, Entries: 2, Ratio: 1, Depth: 2}
	for name, source := range map[string]*bytes.Buffer{"zip": &zipped, "tar": &tarred} {
		for what, test := range map[string]struct {
			ctx    context.Context
			limits UnpackLimits
			want   error
		}{
			"within the limits": {t.Context(), enough, nil},
			"too many bytes":    {t.Context(), UnpackLimits{Bytes: 99, Entries: 2, Ratio: 1, Depth: 2}, errBadSource},
			"too many entries":  {t.Context(), UnpackLimits{Bytes: 100, Entries: 1, Ratio: 1, Depth: 2}, errBadSource},
			"too deep":          {t.Context(), UnpackLimits{Bytes: 100, Entries: 2, Ratio: 1, Depth: 1}, errBadSource},
			"canceled":          {canceled, enough, ErrCanceled},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				dir := t.TempDir()
				root, err := os.OpenRoot(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer root.Close()
				err = unpack(test.ctx, root, bytes.NewReader(source.Bytes()), int64(source.Len()), test.limits)
				if !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				if got, readErr := os.ReadFile(filepath.Join(dir, "d", "f")); err == nil && !bytes.Equal(got, content) {
					t.Errorf("unpacked %q, %v", got, readErr)
				}
			})
		}
	}
}
