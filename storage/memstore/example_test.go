package memstore_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
)

func Example() {
	ctx := context.Background()
	store := storage.New(memstore.New(), nil)
	blob := storage.Blob{Digest: sha256.Sum256([]byte("bytes")), Size: 5}
	fmt.Println(store.Put(ctx, "web", blob, strings.NewReader("bytes")))
	// Output: <nil>
}
