package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/interop/peer"
)

// TestCoder has builds run by a worker on coder/websocket, also over connections that break on the way.
func TestCoder(t *testing.T) {
	for name, drop := range map[string]int{"one connection": 0, "broken connections": 100_000} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var said strings.Builder
			err := tryWorker(ctx, &said, func(ctx context.Context, url string) error {
				w := peer.New(url, credential, "stranger")
				w.Drop = drop
				return w.Run(ctx)
			})
			if err != nil {
				t.Errorf("%v\n%s", err, said.String())
			}
			if strings.Count(said.String(), "\n") != 2 {
				t.Errorf("said %q", said.String())
			}
		})
	}
}

// TestWrongCredential has a controller refuse the worker, which gives up.
func TestWrongCredential(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := tryWorker(ctx, t.Output(), func(ctx context.Context, url string) error {
		return peer.New(url, "other", "stranger").Run(ctx)
	})
	if err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("it ends with %v", err)
	}
}
