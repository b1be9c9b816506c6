package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/storeblobs"
)

const (
	project    = "acme"
	name       = "stranger"
	credential = "slw_worker_of_the_interop_test" //nolint:gosec // good for this test alone
	lines      = 40_000
)

var source = []byte("what the build works on\n")

// A host is a controller and the queue behind it.
type host struct {
	queue *queue.Queue
	blobs worker.Blobs
	hub   *worker.Hub
	url   string
}

// tryWorker serves a hub, has start run a worker that is given its URL, and returns what did not go as it should. The context of start ends when
// everything has been seen.
func tryWorker(ctx context.Context, out io.Writer, start func(ctx context.Context, url string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h, stop, err := serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	working, quit := context.WithCancel(ctx)
	var worker sync.WaitGroup
	defer worker.Wait()
	defer quit()
	worker.Go(func() {
		if err := start(working, h.url); err != nil {
			cancel(err)
		}
	})
	if err := h.succeed(ctx); err != nil {
		return because(ctx, err)
	}
	fmt.Fprintln(out, "interop: a build has succeeded, with all of its log and its artifact")
	if err := h.cancel(ctx); err != nil {
		return because(ctx, err)
	}
	fmt.Fprintln(out, "interop: a build was canceled while it ran")
	return nil
}

// because returns what made ctx end, if it has: the rest follows from that.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// serve starts a hub with a small window for logs and heartbeats that a short test sees.
func serve(ctx context.Context) (*host, func(), error) {
	quiet := slog.New(slog.DiscardHandler)
	h := &host{
		queue: queue.New(memqueue.New(), &queue.Options{Logger: quiet}),
		blobs: storeblobs.New(storage.New(memstore.New(), nil)),
	}
	var err error
	h.hub, err = worker.NewHub(h.queue, h.blobs, authenticate, &worker.HubOptions{
		Heartbeat: 200 * time.Millisecond, ReadTimeout: 30 * time.Second, LogWindow: 64 << 10, Poll: 50 * time.Millisecond, Logger: quiet,
	})
	if err != nil {
		return nil, nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	h.url = "http://" + listener.Addr().String()
	server := &http.Server{Handler: h.hub, ReadHeaderTimeout: 10 * time.Second}
	running, quit := context.WithCancel(ctx)
	var loops sync.WaitGroup
	loops.Go(func() { _ = h.hub.Run(running) })
	loops.Go(func() { _ = server.Serve(listener) })
	return h, func() {
		quit()
		_ = server.Close()
		loops.Wait()
	}, nil
}

func authenticate(r *http.Request) (worker.Identity, error) {
	if r.Header.Get("Authorization") != "Bearer "+credential {
		return worker.Identity{}, worker.ErrUnauthorized
	}
	return worker.Identity{Worker: name, Pools: []string{queue.DefaultPool}}, nil
}

func (h *host) submit(ctx context.Context, spec string) (queue.ID, error) {
	digest := queue.Digest(sha256.Sum256(source))
	if err := h.blobs.Put(ctx, project, digest, int64(len(source)), bytes.NewReader(source)); err != nil {
		return queue.ID{}, err
	}
	return h.queue.Submit(ctx, queue.Params{
		Project: project, Spec: []byte(spec), Source: &queue.Source{Digest: digest, Size: int64(len(source))}, RunTimeout: time.Minute,
	})
}

// succeed submits a build that writes a long log and an artifact, and looks for both.
func (h *host) succeed(ctx context.Context) error {
	id, err := h.submit(ctx, fmt.Sprintf(`{"lines":%d}`, lines))
	if err != nil {
		return err
	}
	b, err := h.queue.Wait(ctx, project, id)
	if err != nil {
		return err
	}
	if b.State != queue.Succeeded || b.Epoch != 1 || b.ExitCode == nil || *b.ExitCode != 0 {
		return fmt.Errorf("the build ended as %v at epoch %d, with %q", b.State, b.Epoch, b.Reason)
	}
	sum := fmt.Sprintf("%x\n", sha256.Sum256(source))
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	want.WriteString(sum)
	return errors.Join(h.checkLog(ctx, id, want.String()), h.checkArtifact(ctx, id, sum))
}

func (h *host) checkLog(ctx context.Context, id queue.ID, want string) error {
	var log []byte
	for {
		page, err := h.queue.ReadLog(ctx, project, queue.AttemptID{Build: id}, int64(len(log)), queue.MaxLogRead)
		if err != nil {
			return err
		}
		if len(page.Data) == 0 {
			break
		}
		log = append(log, page.Data...)
	}
	attempts, err := h.queue.Attempts(ctx, project, id)
	if err != nil {
		return err
	}
	if string(log) != want || len(attempts) != 1 || !attempts[0].LogComplete || attempts[0].LogSHA256 != sha256.Sum256(log) {
		return fmt.Errorf("the log has %d bytes, want %d; %d attempts: %+v", len(log), len(want), len(attempts), attempts)
	}
	return nil
}

func (h *host) checkArtifact(ctx context.Context, id queue.ID, want string) error {
	artifacts, err := h.queue.Artifacts(ctx, project, queue.AttemptID{Build: id})
	if err != nil {
		return err
	}
	if len(artifacts) != 1 || artifacts[0].Name != "out/sum.txt" {
		return fmt.Errorf("the artifacts are %+v", artifacts)
	}
	content, err := h.blobs.Open(ctx, project, artifacts[0].Digest)
	if err != nil {
		return err
	}
	defer content.Close()
	got, err := io.ReadAll(content)
	if err != nil || string(got) != want {
		return fmt.Errorf("the artifact holds %q, %w", got, err)
	}
	return nil
}

// cancel submits a build that runs until it is canceled, and cancels it when it does.
func (h *host) cancel(ctx context.Context) error {
	id, err := h.submit(ctx, `{"wait":true}`)
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for b := (queue.Build{}); b.State != queue.Running; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if b, err = h.queue.Get(ctx, project, id); err != nil {
			return err
		}
	}
	if _, err := h.queue.Cancel(ctx, project, id, "superseded"); err != nil {
		return err
	}
	b, err := h.queue.Wait(ctx, project, id)
	if err == nil && (b.State != queue.Canceled || b.Reason != "superseded") {
		err = fmt.Errorf("the canceled build ended as %v with %q", b.State, b.Reason)
	}
	return err
}
