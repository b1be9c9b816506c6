package worker_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// An upperCase executor takes a build's spec for a text, and makes an artifact of it in capital letters.
type upperCase struct{}

// Run implements [worker.Executor].
func (upperCase) Run(ctx context.Context, job worker.Job) (worker.Result, error) {
	if len(job.Spec) == 0 {
		return worker.Result{}, fmt.Errorf("%w: there is no text", worker.ErrBadSpec)
	}
	text := strings.ToUpper(string(job.Spec))
	fmt.Fprintf(job.Log, "made %d letters large\n", len(text))
	path := filepath.Join(job.Dir, "large.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return worker.Result{}, err
	}
	return worker.Result{Artifacts: []worker.File{{Name: "large.txt", Path: path}}}, nil
}

func ExampleExecutor() {
	dir, err := os.MkdirTemp("", "job")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	job := worker.Job{Spec: []byte("ship it"), Dir: dir, Log: os.Stdout}
	result, err := upperCase{}.Run(context.Background(), job)
	fmt.Println(result.Artifacts[0].Name, err)

	_, err = upperCase{}.Run(context.Background(), worker.Job{})
	fmt.Println(errors.Is(err, worker.ErrBadSpec))
	// Output:
	// made 7 letters large
	// large.txt <nil>
	// true
}

// A controller and a worker in one process, which is how a service may begin.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	quiet := slog.New(slog.DiscardHandler)

	q := queue.New(memqueue.New(), &queue.Options{Logger: quiet})
	store := storage.New(memstore.New(), nil)
	authenticate := func(r *http.Request) (worker.Identity, error) {
		if r.Header.Get("Authorization") != "Bearer sesame" {
			return worker.Identity{}, worker.ErrUnauthorized
		}
		return worker.Identity{Worker: "one", Pools: []string{queue.DefaultPool}}, nil
	}
	hub, err := worker.NewHub(q, storeblobs.New(store), authenticate, &worker.HubOptions{Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(hub)
	defer server.Close()
	running.Go(func() { _ = hub.Run(ctx) })

	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	agent, err := worker.NewAgent(worker.AgentOptions{
		URLs: []string{server.URL}, Credential: "sesame", Worker: "one", Executor: upperCase{}, Dir: dir, Logger: quiet,
	})
	if err != nil {
		log.Fatal(err)
	}
	agentCtx, leave := context.WithCancel(ctx)
	gone := make(chan error, 1)
	running.Go(func() { gone <- agent.Run(agentCtx) })

	id, err := q.Submit(ctx, queue.Params{Project: "demo", Spec: []byte("ship it")})
	if err != nil {
		log.Fatal(err)
	}
	build, err := q.Get(ctx, "demo", id)
	for ; err == nil && !build.State.Terminal(); build, err = q.Get(ctx, "demo", id) {
		<-time.After(10 * time.Millisecond)
	}
	page, logErr := q.ReadLog(ctx, "demo", queue.AttemptID{Build: id}, 0, 1000)
	artifacts, listErr := q.Artifacts(ctx, "demo", queue.AttemptID{Build: id})
	leave() // before the directory and the server go
	if err := errors.Join(err, logErr, listErr, <-gone); err != nil {
		log.Fatal(err)
	}
	fmt.Println(build.State, build.Worker)
	fmt.Printf("%s", page.Data)
	for _, a := range artifacts {
		fmt.Println(a.Name, a.Size, a.Digest == queue.Digest(sha256.Sum256([]byte("SHIP IT"))))
	}
	// Output:
	// succeeded one
	// made 7 letters large
	// large.txt 7 true
}
