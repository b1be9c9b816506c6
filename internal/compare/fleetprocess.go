package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

const (
	// fleetCommand is the first argument of a process that is thousands of workers.
	fleetCommand = "connect-for"

	// A worker reconnects like worker.Agent with its defaults.
	reconnectMin = 500 * time.Millisecond
	reconnectMax = 30 * time.Second
)

// A fleetOrder is what such a process is told: where the controller is, and the keys of its workers, the i-th of which is named and
// labeled by workerName(i).
type fleetOrder struct {
	URL  string
	Keys []string
}

// A fleetEvent is a line of such a process: a worker is connected, has been offered a build, or is connected no more.
type fleetEvent struct {
	At      int64 // nanoseconds since 1970
	Worker  int
	Build   string `json:",omitempty"`
	Offered bool
	Over    bool
	Fault   string
}

func workerName(i int) string { return fmt.Sprintf("worker-%05d", i) }

// workerLabels has a worker, and the builds that are for it alone, told from all others.
func workerLabels(i int) queue.Labels { return queue.Labels{"host": workerName(i)} }

// A fleetProcess is such a process.
type fleetProcess struct {
	cmd    *exec.Cmd
	input  io.Closer
	events <-chan fleetEvent // closed when the process has ended
}

func startFleet(ctx context.Context, order fleetOrder) (*fleetProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, fleetCommand)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	events := make(chan fleetEvent, 4*len(order.Keys))
	go func() {
		defer close(events)
		for lines := json.NewDecoder(out); ; {
			var e fleetEvent
			if lines.Decode(&e) != nil {
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return &fleetProcess{cmd: cmd, input: in, events: events}, json.NewEncoder(in).Encode(order)
}

// stop ends the process.
func (p *fleetProcess) stop() error { return errors.Join(p.input.Close(), p.cmd.Wait()) }

// await waits until a worker has said something, for a limited time.
func (p *fleetProcess) await(ctx context.Context, limit time.Duration) (fleetEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case e, ok := <-p.events:
		if !ok {
			return e, errors.New("the process of the workers has ended")
		}
		if e.Fault != "" {
			return e, fmt.Errorf("%s: %s", workerName(e.Worker), e.Fault)
		}
		return e, nil
	case <-ctx.Done():
		return fleetEvent{}, ctx.Err()
	}
}

// runFleet is the other process. It ends when its input does.
func runFleet(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 0 {
		return fmt.Errorf("%s is for the program itself", fleetCommand)
	}
	var order fleetOrder
	input := json.NewDecoder(stdin)
	if err := input.Decode(&order); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin)
	}()
	f := &fleet{order: order, out: bufio.NewWriter(stdout)}
	group, ctx := errgroup.WithContext(ctx)
	for i := range order.Keys {
		group.Go(func() error {
			f.keepConnected(ctx, i)
			return nil
		})
	}
	return group.Wait()
}

// A fleet is the workers of a process.
type fleet struct {
	order fleetOrder

	mu  sync.Mutex
	out *bufio.Writer
}

func (f *fleet) tell(e fleetEvent) {
	e.At = time.Now().UnixNano()
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = json.NewEncoder(f.out).Encode(e) // if nobody reads, the process is about to end
	_ = f.out.Flush()
}

// keepConnected connects a worker again and again, with the pauses of an agent.
func (f *fleet) keepConnected(ctx context.Context, i int) {
	var next time.Duration
	for ctx.Err() == nil {
		s := &fleetSession{fleet: f, index: i}
		err := s.run(ctx)
		if s.welcomed {
			f.tell(fleetEvent{Worker: i, Over: true})
			next = 0
		}
		wait := time.Duration(0)
		closed, ok := errors.AsType[*ws.CloseError](err)
		if ok && wire.CloseCode(closed.Code).Retry() == wire.RetrySoon {
			wait = rand.N(reconnectMin)
		} else {
			next = max(reconnectMin, min(2*next, reconnectMax))
			wait = rand.N(next)
		}
		if refused, ok := errors.AsType[*ws.RefusedError](err); ok {
			wait = max(wait, min(refused.RetryAfter, reconnectMax))
			if refused.Status != http.StatusServiceUnavailable && ctx.Err() == nil {
				f.tell(fleetEvent{Worker: i, Fault: err.Error()})
			}
		}
		_ = pause(ctx, wait)
	}
}

// A fleetSession is one connection of a worker, which ends each build as soon as it may start it.
type fleetSession struct {
	fleet    *fleet
	index    int
	conn     *ws.Conn
	welcomed bool
}

func (s *fleetSession) run(ctx context.Context) error {
	conn, err := ws.Dial(ctx, s.fleet.order.URL, http.Header{"Authorization": {"Bearer " + s.fleet.order.Keys[s.index]}}, nil,
		&ws.Options{Subprotocols: wire.Subprotocols(), ControlLane: 16, LogLane: 1, HandshakeTimeout: time.Minute})
	if err != nil {
		return err
	}
	s.conn = conn
	s.send(ctx, &wire.Hello{
		Worker: workerName(s.index), Instance: queue.NewID(), Version: "compare", OS: "linux", Arch: "amd64", Slots: 1,
		Labels: workerLabels(s.index),
	})
	return conn.Run(ctx, func(ctx context.Context, _ ws.Kind, data []byte) error {
		m, err := wire.Decode(data)
		if err == nil {
			s.receive(ctx, m)
		}
		return err
	})
}

func (s *fleetSession) receive(ctx context.Context, m wire.Message) {
	switch m := m.(type) {
	case *wire.Welcome:
		s.welcomed = true
		s.fleet.tell(fleetEvent{Worker: s.index})
		every := max(m.Heartbeat, m.IdleHeartbeat).Duration() // no build lasts
		s.conn.SetReadTimeout(3 * every)
		go s.beat(ctx, every)
	case *wire.Offer:
		s.fleet.tell(fleetEvent{Worker: s.index, Build: m.Build.String(), Offered: true})
		s.send(ctx, &wire.Accept{Ref: m.Ref, TokenHash: sha256.Sum256([]byte(m.Build.String()))})
	case *wire.Start:
		s.send(ctx, &wire.Finished{Ref: m.Ref, Outcome: wire.OutcomeSucceeded, ExitCode: new(0), LogSHA256: sha256.Sum256(nil)})
	}
}

// beat sends heartbeats, give or take a fifth of the time between them, until the connection ends.
func (s *fleetSession) beat(ctx context.Context, every time.Duration) {
	wait := rand.N(every)
	for seq := int64(1); pause(ctx, wait) == nil; seq++ {
		s.send(ctx, &wire.Heartbeat{Seq: seq, FreeSlots: 1})
		wait = time.Duration(float64(every) * (0.8 + 0.4*rand.Float64()))
	}
}

func (s *fleetSession) send(ctx context.Context, m wire.Message) {
	data, err := wire.Encode(m)
	if err == nil {
		err = s.conn.SendControl(ctx, data)
	}
	if err != nil && !errors.Is(err, ws.ErrClosed) && ctx.Err() == nil {
		s.fleet.tell(fleetEvent{Worker: s.index, Fault: err.Error()})
	}
}
