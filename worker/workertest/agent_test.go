package workertest_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/workertest"
)

// TestAgent holds Slipway's own worker to the protocol.
func TestAgent(t *testing.T) {
	workertest.TestWorker(t, workertest.Program{
		Start:    startAgent,
		Print:    func(text string) []byte { return spec(t, build{Print: text}) },
		Wait:     spec(t, build{Print: "ready\n", Wait: true}),
		Artifact: func(name, content string) []byte { return spec(t, build{Name: name, Content: content}) },
		Source:   archive,
	})
}

// A build is what the executor of these tests understands.
type build struct {
	Print         string
	Wait          bool
	Name, Content string
}

func spec(t *testing.T, b build) []byte {
	t.Helper()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type executor struct{}

func (executor) Run(ctx context.Context, job worker.Job) (worker.Result, error) {
	var b build
	if err := json.Unmarshal(job.Spec, &b); err != nil {
		return worker.Result{}, worker.ErrBadSpec
	}
	if _, err := io.WriteString(job.Log, b.Print); err != nil {
		return worker.Result{}, err
	}
	if b.Wait {
		<-ctx.Done()
		return worker.Result{ExitCode: -1, Signal: "SIGTERM"}, nil
	}
	if b.Name == "" {
		return worker.Result{}, nil
	}
	path := filepath.Join(job.Dir, "artifact")
	if err := os.WriteFile(path, []byte(b.Content), 0o600); err != nil {
		return worker.Result{}, err
	}
	return worker.Result{Artifacts: []worker.File{{Name: b.Name, Path: path}}}, nil
}

func startAgent(t *testing.T, s workertest.Settings) <-chan struct{} {
	t.Helper()
	a, err := worker.NewAgent(worker.AgentOptions{
		URLs: []string{s.URL}, Credential: worker.Secret(s.Credential), Worker: s.Worker, Executor: executor{}, Dir: t.TempDir(),
		ReconnectMin: 10 * time.Millisecond, ReconnectMax: 50 * time.Millisecond, DialTimeout: 2 * time.Second, Repeat: 200 * time.Millisecond,
		LogTimeout: 500 * time.Millisecond, StopTimeout: time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	exited := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		defer close(exited)
		_ = a.Run(ctx) // what it says, the test sees
	})
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return exited
}

// archive returns a tar of one file.
func archive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
