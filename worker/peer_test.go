package worker_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/token"
	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// A peer is one side of a connection that says what a test wants it to say.
type peer struct {
	t     *testing.T
	conn  *ws.Conn
	got   chan wire.Message
	ended chan error
}

// newPeer runs a connection until the test ends.
func newPeer(t *testing.T, conn *ws.Conn) *peer {
	p := &peer{t: t, conn: conn, got: make(chan wire.Message, 1000), ended: make(chan error, 1)}
	var running sync.WaitGroup
	running.Go(func() {
		p.ended <- conn.Run(context.Background(), func(_ context.Context, kind ws.Kind, data []byte) error {
			if kind == ws.Log {
				frame, err := wire.DecodeLog(append([]byte(nil), data...))
				if err == nil {
					p.got <- &logMessage{LogAck: wire.LogAck{Ref: frame.Ref}, frame: frame}
				}
				return err
			}
			m, err := wire.Decode(data)
			if err == nil {
				p.got <- m
			}
			return err
		})
	})
	t.Cleanup(func() {
		conn.CloseNow()
		running.Wait()
	})
	return p
}

// A logMessage is a log frame among messages.
type logMessage struct {
	wire.LogAck // for its methods only
	frame       wire.LogFrame
}

// dial connects to a controller as a worker of that name.
func (c *controller) dial(t *testing.T, name string) *peer {
	t.Helper()
	return newPeer(t, c.connect(t, name))
}

// connect is dial for tests that read the connection themselves.
func (c *controller) connect(t *testing.T, name string) *ws.Conn {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + secret + "_" + name}}
	url := "ws" + strings.TrimPrefix(c.server.URL, "http") + "/v1/worker/connect"
	conn, err := ws.Dial(t.Context(), url, header, nil, &ws.Options{Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	return conn
}

func (p *peer) send(m wire.Message) {
	p.t.Helper()
	data, err := wire.Encode(m)
	if err == nil {
		err = p.conn.SendControl(p.t.Context(), data)
	}
	if err != nil {
		p.t.Fatalf("send %s: %v", m.Type(), err)
	}
}

func (p *peer) sendLog(ref wire.Ref, offset int64, data string) {
	p.t.Helper()
	frame, err := wire.EncodeLog(nil, wire.LogFrame{Ref: ref, Offset: offset, Data: []byte(data)})
	if err == nil {
		err = p.conn.SendLog(p.t.Context(), frame)
	}
	if err != nil {
		p.t.Fatalf("send log: %v", err)
	}
}

// expect waits for a message of a type, and passes over others.
func expect[M wire.Message](p *peer) M {
	p.t.Helper()
	deadline := time.After(patient)
	for {
		select {
		case m := <-p.got:
			if wanted, ok := m.(M); ok {
				return wanted
			}
		case err := <-p.ended:
			p.ended <- err
			p.t.Fatalf("the connection ended with %v before a message came", err)
		case <-deadline:
			p.t.Fatal("waited in vain for a message")
		}
	}
}

// closed waits for the end of the connection and returns the code that the other side closed it with.
func (p *peer) closed() wire.CloseCode {
	p.t.Helper()
	err := receive(p.t, "the end of the connection", p.ended)
	p.ended <- err
	closed, ok := errors.AsType[*ws.CloseError](err)
	if !ok {
		p.t.Fatalf("the connection ended with %v, not with a close", err)
	}
	return wire.CloseCode(closed.Code)
}

// sync waits until the controller has read all that was sent before, and returns the answer.
func (p *peer) sync(seq int64, leases ...wire.Ref) *wire.HeartbeatOK {
	p.t.Helper()
	p.send(&wire.Heartbeat{Seq: seq, Leases: leases, FreeSlots: 1})
	for {
		if ok := expect[*wire.HeartbeatOK](p); ok.Seq == seq {
			return ok
		}
	}
}

func hello(name string, instance queue.ID, running ...wire.Running) *wire.Hello {
	return &wire.Hello{
		Worker: name, Instance: instance, Version: "test", OS: runtime.GOOS, Arch: runtime.GOARCH, Slots: 1, Running: running,
	}
}

// enter says hello and waits for the welcome.
func (p *peer) enter(name string, instance queue.ID, running ...wire.Running) *wire.Welcome {
	p.t.Helper()
	p.send(hello(name, instance, running...))
	return expect[*wire.Welcome](p)
}

// take accepts the next offer and waits for the start.
func (p *peer) take() (*wire.Offer, token.Token) {
	p.t.Helper()
	offer := expect[*wire.Offer](p)
	secret := token.New(offer.Build, offer.Epoch)
	p.send(&wire.Accept{Ref: offer.Ref, TokenHash: secret.Hash()})
	if start := expect[*wire.Start](p); start.Ref != offer.Ref {
		p.t.Fatalf("start of %v, want %v", start.Ref, offer.Ref)
	}
	return offer, secret
}

// finished is a report of success.
func finished(ref wire.Ref, log string) *wire.Finished {
	return &wire.Finished{
		Ref: ref, Outcome: wire.OutcomeSucceeded, ExitCode: new(0), LogLen: int64(len(log)), LogSHA256: digest(log),
	}
}
