package workertest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/storeblobs"
	"github.com/slipway-build/slipway/worker/workertest"
)

const (
	project    = "acme"
	credential = "slw_worker_canary"
	name       = "one"
)

// TestHub holds Slipway's own controller to the protocol.
func TestHub(t *testing.T) { workertest.TestController(t, openHub) }

func openHub(t *testing.T) workertest.Service {
	quiet := slog.New(slog.DiscardHandler)
	q := queue.New(memqueue.New(), &queue.Options{
		OfferTimeout: 2 * time.Second, Avoid: 50 * time.Millisecond, MaintainEvery: 20 * time.Millisecond, Logger: quiet,
		Backoff: queue.Backoff{Base: 10 * time.Millisecond, Max: 50 * time.Millisecond},
	})
	blobs := storeblobs.New(storage.New(memstore.New(), nil))
	hub, err := worker.NewHub(q, blobs, authenticate, &worker.HubOptions{
		ReadTimeout: time.Minute, Poll: 20 * time.Millisecond, CancelPoll: 20 * time.Millisecond, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(hub)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		server.Close()
	})
	waitUntil(t, "the hub is ready", func() bool { return hub.Ready() == nil })
	return workertest.Service{
		URL: server.URL, Worker: name, Credential: credential,
		Submit: func(t *testing.T, spec, source []byte) queue.ID {
			t.Helper()
			p := queue.Params{Project: project, Spec: spec, RunTimeout: time.Minute}
			if source != nil {
				p.Source = &queue.Source{Digest: sha256.Sum256(source), Size: int64(len(source))}
				if err := blobs.Put(t.Context(), project, p.Source.Digest, p.Source.Size, bytes.NewReader(source)); err != nil {
					t.Fatal(err)
				}
			}
			id, err := q.Submit(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			return id
		},
		Cancel: func(t *testing.T, id queue.ID) {
			t.Helper()
			if _, err := q.Cancel(t.Context(), project, id, "superseded"); err != nil {
				t.Fatal(err)
			}
		},
		State: func(t *testing.T, id queue.ID) queue.State {
			t.Helper()
			b, err := q.Get(t.Context(), project, id)
			if err != nil {
				t.Fatal(err)
			}
			return b.State
		},
		Log: func(t *testing.T, id queue.ID) []byte {
			t.Helper()
			page, err := q.ReadLog(t.Context(), project, queue.AttemptID{Build: id}, 0, queue.MaxLogRead)
			if err != nil {
				t.Fatal(err)
			}
			return page.Data
		},
	}
}

func authenticate(r *http.Request) (worker.Identity, error) {
	if r.Header.Get("Authorization") != "Bearer "+credential {
		return worker.Identity{}, worker.ErrUnauthorized
	}
	return worker.Identity{Worker: name, Pools: []string{queue.DefaultPool}}, nil
}

func waitUntil(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}
