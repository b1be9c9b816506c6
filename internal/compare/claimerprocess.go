package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// claimerCommand is the first argument of a process that only claims and runs builds.
const claimerCommand = "claim-for"

// An event is a line of such a process: an attempt begins, or is over.
type event struct {
	queue.AttemptID
	Key  string
	At   int64 // nanoseconds since 1970
	Over bool
}

// A claimerProcess is another process that works for a queue, and may be killed.
type claimerProcess struct {
	worker string
	cmd    *exec.Cmd
	input  io.Closer
	out    io.Reader
	killed atomic.Int64 // when, in nanoseconds since 1970; zero if it was not
}

// startClaimer starts a process that is the worker of that name.
func startClaimer(ctx context.Context, db *database, worker string) (*claimerProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &claimerProcess{worker: worker, cmd: exec.CommandContext(ctx, self, claimerCommand, db.url, worker)}
	p.cmd.Stderr = os.Stderr
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return p, p.cmd.Start()
}

// follow waits for the end of the process and returns what it had run. What it had not ended when it was killed ended with it.
func (p *claimerProcess) follow() (all []execution, err error) {
	begun := make(map[queue.AttemptID]event)
	for lines := json.NewDecoder(p.out); ; {
		var e event
		if err = lines.Decode(&e); err != nil {
			break
		}
		if !e.Over {
			begun[e.AttemptID] = e
			continue
		}
		all = append(all, execution{key: e.Key, begin: begun[e.AttemptID].At, end: e.At})
		delete(begun, e.AttemptID)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	err = errors.Join(err, p.cmd.Wait())
	killed := p.killed.Load()
	for _, e := range begun {
		all = append(all, execution{key: e.Key, begin: e.At, end: killed})
	}
	switch {
	case killed != 0:
		return all, nil
	case err != nil:
		return nil, fmt.Errorf("worker %s: %w", p.worker, err)
	case len(begun) > 0:
		return nil, fmt.Errorf("worker %s left %d builds", p.worker, len(begun))
	default:
		return all, nil
	}
}

// kill ends the process without its doing.
func (p *claimerProcess) kill() error {
	p.killed.Store(time.Now().UnixNano())
	return p.cmd.Process.Kill()
}

// stop has the process end what it runs, and itself.
func (p *claimerProcess) stop() error { return p.input.Close() }

// runClaimer is the other process. It ends when its input does.
func runClaimer(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin)
	}()
	if len(args) != 2 {
		return fmt.Errorf("%s is for the program itself", claimerCommand)
	}
	pool, err := openPool(ctx, args[0], claimerConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	side, err := openSlipway(pool, limitOptions)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(stdout)
	tell := func(e event) error {
		mu.Lock()
		defer mu.Unlock()
		e.At = time.Now().UnixNano()
		return out.Encode(e)
	}
	worker := queue.NewWorker(side.queue, args[1], &queue.WorkerOptions{Slots: claimerSlots})
	return worker.Run(ctx, func(ctx context.Context, job *queue.Job) error {
		e := event{AttemptID: job.AttemptID, Key: string(job.Spec)}
		if err := tell(e); err != nil {
			return err
		}
		_ = pause(ctx, rand.N(2*limitBuild)) // less if the build is to stop
		e.Over = true
		return tell(e)
	})
}

// limitKey is the key of which that many builds may run at a time.
func limitKey(limit int) string { return strconv.Itoa(limit) }
