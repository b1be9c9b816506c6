package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/interop/peer"
	"github.com/slipway-build/slipway/worker/workertest"
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

// TestPeerConforms holds that worker to the protocol.
func TestPeerConforms(t *testing.T) {
	workertest.TestWorker(t, workertest.Program{
		Start: func(t *testing.T, s workertest.Settings) <-chan struct{} {
			t.Helper()
			ctx, stop := context.WithCancel(context.Background())
			exited := make(chan struct{})
			go func() {
				defer close(exited)
				w := peer.New(s.URL, s.Credential, s.Worker)
				w.Repeat, w.Welcome, w.Pause = 200*time.Millisecond, time.Second, 20*time.Millisecond
				_ = w.Run(ctx) // what it says, the test sees
			}()
			t.Cleanup(func() {
				stop()
				<-exited
			})
			return exited
		},
		Print:    func(text string) []byte { return marshal(t, map[string]any{"print": text}) },
		Wait:     marshal(t, map[string]any{"print": "ready\n", "wait": true}),
		Artifact: func(name, content string) []byte { return marshal(t, map[string]any{"file": name, "text": content}) },
		Source:   func(*testing.T) []byte { return []byte("any bytes are a source") },
	})
}

func marshal(t *testing.T, spec map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
