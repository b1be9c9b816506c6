package memqueue_test

import (
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

func TestBackend(t *testing.T) {
	queuetest.Run(t, func(*testing.T) queue.Backend { return memqueue.New() })
}
