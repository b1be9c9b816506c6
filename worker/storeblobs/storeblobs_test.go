package storeblobs_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/storeblobs"
)

func TestRoundTrip(t *testing.T) {
	const text = "the bytes of an artifact"
	blobs := storeblobs.New(storage.New(memstore.New(), nil))
	digest := queue.Digest(sha256.Sum256([]byte(text)))
	if err := blobs.Put(t.Context(), "web", digest, int64(len(text)), strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	size, err := blobs.Stat(t.Context(), "web", digest)
	if err != nil || size != int64(len(text)) {
		t.Fatalf("Stat = %d, %v, want %d", size, err, len(text))
	}
	r, err := blobs.Open(t.Context(), "web", digest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || string(got) != text {
		t.Fatalf("read %q, %v, want %q", got, err, text)
	}
}

func TestErrorsHaveTheirMeaning(t *testing.T) {
	blobs := storeblobs.New(storage.New(memstore.New(), &storage.Options{MaxBlobBytes: 8}))
	digest := queue.Digest(sha256.Sum256([]byte("other")))
	tests := map[string]struct {
		do   func() error
		want error
	}{
		"stat of what is not there": {func() error { _, err := blobs.Stat(t.Context(), "web", digest); return err }, worker.ErrBlobNotFound},
		"open of what is not there": {func() error { _, err := blobs.Open(t.Context(), "web", digest); return err }, worker.ErrBlobNotFound},
		"a project that cannot be": {func() error {
			return blobs.Put(t.Context(), "../etc", digest, 1, strings.NewReader("x"))
		}, queue.ErrInvalid},
		"too large": {func() error {
			return blobs.Put(t.Context(), "web", digest, 9, strings.NewReader("123456789"))
		}, worker.ErrBlobTooLarge},
		"another digest": {func() error {
			return blobs.Put(t.Context(), "web", digest, 5, strings.NewReader("bytes"))
		}, worker.ErrBlobMismatch},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := test.do(); !errors.Is(err, test.want) {
				t.Errorf("got %v, want an error of %v", err, test.want)
			}
		})
	}
}
