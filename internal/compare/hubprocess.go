package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/sqlauth"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/keyauth"
)

// logCap is how long the log of a build may be: no suite shall meet it.
const logCap = 1 << 30

// hubCommand is the first argument of a process that is a controller: a queue, a hub, the keys of workers and an HTTP server.
const hubCommand = "serve-for"

// A hubProcess is such a process.
type hubProcess struct {
	cmd   *exec.Cmd
	input io.Closer
}

// startHub starts a controller at an address and returns when it serves.
func startHub(ctx context.Context, db *database, address string, conns int) (*hubProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &hubProcess{cmd: exec.CommandContext(ctx, self, hubCommand, db.url, address, strconv.Itoa(conns))}
	p.cmd.Stderr = os.Stderr
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	var ready bool
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		return nil, errors.Join(fmt.Errorf("the controller did not start: %w", err), p.kill())
	}
	return p, nil
}

// stop has the process shut down as it does before it is replaced.
func (p *hubProcess) stop() error { return errors.Join(p.input.Close(), p.cmd.Wait()) }

// kill ends the process without its doing.
func (p *hubProcess) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // says that it was killed
	return err
}

// rss returns how much memory the process occupies, in bytes.
func (p *hubProcess) rss() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kilobytes); err == nil {
			return kilobytes * 1024, nil
		}
	}
	return 0, errors.New("the process does not say how much memory it has")
}

// cpu returns how long the process has been on a processor, for itself or in the kernel.
func (p *hubProcess) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // after the name
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("what is %q?", stat)
	}
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // Linux tells programs of hundredths, whatever it counts in
}

// runHub is the other process. It shuts down when its input ends.
func runHub(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin)
	}()
	if len(args) != 3 {
		return fmt.Errorf("%s is for the program itself", hubCommand)
	}
	conns, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, args[0], conns)
	if err != nil {
		return err
	}
	defer pool.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	backend, err := pgqueue.New(pool, nil)
	if err != nil {
		return err
	}
	kept, err := sqlauth.NewPostgres(pool, nil)
	if err != nil {
		return err
	}
	keys, err := auth.New(kept, &auth.Options{Logger: log})
	if err != nil {
		return err
	}
	q := queue.New(backend, &queue.Options{Logger: log, LogBytes: logCap, LogLines: logCap})
	hub, err := worker.NewHub(q, noBlobs{}, keyauth.New(keys), &worker.HubOptions{Logger: log, LogCap: logCap})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", args[1])
	if err != nil {
		return err
	}
	server := &http.Server{Handler: hub, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if err := json.NewEncoder(stdout).Encode(true); err != nil {
		return err
	}
	err = hub.Run(ctx)
	return errors.Join(err, server.Close(), ignoreClosed(<-served))
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// noBlobs is for builds without sources and artifacts.
type noBlobs struct{}

func (noBlobs) Put(context.Context, string, queue.Digest, int64, io.Reader) error {
	return worker.ErrNoSpace
}

func (noBlobs) Open(context.Context, string, queue.Digest) (io.ReadSeekCloser, error) {
	return nil, worker.ErrBlobNotFound
}

func (noBlobs) Stat(context.Context, string, queue.Digest) (int64, error) {
	return 0, worker.ErrBlobNotFound
}
