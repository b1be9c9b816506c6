package filestore_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
)

func Example() {
	dir, err := os.MkdirTemp("", "filestore")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	backend, err := filestore.New(filepath.Join(dir, "blobs"), &filestore.Options{MinFreeBytes: 1 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer backend.Close()
	store := storage.New(backend, nil)

	blob := storage.Blob{Digest: sha256.Sum256([]byte("bytes")), Size: 5}
	if err := store.Put(context.Background(), "web", blob, strings.NewReader("bytes")); err != nil {
		fmt.Println(err)
		return
	}
	info, err := store.Stat(context.Background(), "web", blob.Digest)
	fmt.Println(info.Size, err)
	// Output: 5 <nil>
}
