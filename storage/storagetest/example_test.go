package storagetest_test

import (
	"testing"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
	"github.com/slipway-build/slipway/storage/storagetest"
)

func ExampleRun() {
	_ = func(t *testing.T) { // the body of a TestBackend of yours
		storagetest.Run(t, func(*testing.T) storage.Backend { return memstore.New() })
	}
	// Output:
}
