package memstore_test

import (
	"testing"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
	"github.com/slipway-build/slipway/storage/storagetest"
)

func TestBackend(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Backend { return memstore.New() })
}
