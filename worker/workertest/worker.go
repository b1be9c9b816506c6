package workertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-build/slipway/internal/token"
	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// A Worker is a connection of a worker to a controller. It does nothing by itself.
type Worker struct {
	*Peer

	url, credential, name string
	instance              queue.ID
	beats                 int64
}

// Dial connects to the controller at a URL, as the worker of that name. The connection ends with the test.
func Dial(tb testing.TB, url, name, credential string) *Worker {
	tb.Helper()
	header := http.Header{"Authorization": {"Bearer " + credential}}
	target := "ws" + strings.TrimPrefix(strings.TrimSuffix(url, "/"), "http") + "/v1/worker/connect"
	conn, err := ws.Dial(tb.Context(), target, header, nil, &ws.Options{Subprotocols: wire.Subprotocols()})
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	w := &Worker{Peer: newPeer(tb, conn), url: strings.TrimSuffix(url, "/"), credential: credential, name: name, instance: queue.NewID()}
	var reading sync.WaitGroup
	reading.Go(func() { w.serve(context.WithoutCancel(tb.Context()), nil) })
	tb.Cleanup(func() {
		conn.CloseNow()
		reading.Wait()
		w.report()
	})
	return w
}

// Again connects the same process of the worker anew.
func (w *Worker) Again() *Worker {
	w.tb.Helper()
	next := Dial(w.tb, w.url, w.name, w.credential)
	next.instance = w.instance
	return next
}

// Hello says that the worker has one slot and runs what is given, and returns the answer.
func (w *Worker) Hello(running ...wire.Running) *wire.Welcome {
	w.tb.Helper()
	w.Send(w.hello(running...))
	return Await[*wire.Welcome](w.Peer, nil)
}

func (w *Worker) hello(running ...wire.Running) *wire.Hello {
	return &wire.Hello{
		Worker: w.name, Instance: w.instance, Version: "workertest", OS: runtime.GOOS, Arch: runtime.GOARCH, Slots: 1, Running: running,
	}
}

// Beat sends a heartbeat for the attempts and returns the answer. What was sent before has been read then.
func (w *Worker) Beat(leases ...wire.Ref) *wire.HeartbeatOK {
	w.tb.Helper()
	w.beats++
	seq := w.beats
	w.Send(&wire.Heartbeat{Seq: seq, Leases: leases, FreeSlots: max(0, 1-len(leases))})
	return Await(w.Peer, func(m *wire.HeartbeatOK) bool { return m.Seq == seq })
}

// An Attempt is an offer and the token that a worker made for it.
type Attempt struct {
	*wire.Offer
	Token string // presented over HTTP
	Hash  queue.Digest
}

// Offered waits for an offer and makes a token for it.
func (w *Worker) Offered() *Attempt {
	w.tb.Helper()
	offer := Await[*wire.Offer](w.Peer, nil)
	made := token.New(offer.Build, offer.Epoch)
	return &Attempt{Offer: offer, Token: made.Reveal(), Hash: made.Hash()}
}

// Accept accepts an offer and waits for the start.
func (w *Worker) Accept(a *Attempt) *wire.Start {
	w.tb.Helper()
	w.Send(&wire.Accept{Ref: a.Ref, TokenHash: a.Hash})
	return Await(w.Peer, func(m *wire.Start) bool { return m.Ref == a.Ref })
}

// Take waits for an offer, accepts it, and waits for the start.
func (w *Worker) Take() *Attempt {
	w.tb.Helper()
	a := w.Offered()
	w.Accept(a)
	return a
}

// Finish reports success with that log, and waits for the answer.
func (w *Worker) Finish(ref wire.Ref, log string) {
	w.tb.Helper()
	w.Send(succeeded(ref, log))
	Await(w.Peer, func(m *wire.FinishedOK) bool { return m.Ref == ref })
}

func succeeded(ref wire.Ref, log string) *wire.Finished {
	return &wire.Finished{
		Ref: ref, Outcome: wire.OutcomeSucceeded, ExitCode: new(0), LogLen: int64(len(log)), LogSHA256: sha256.Sum256([]byte(log)),
	}
}

// Do sends a request with a bearer token to the controller, and returns the answer with its body read.
func (w *Worker) Do(method, path, bearer string, header http.Header, body string) (*http.Response, []byte) {
	w.tb.Helper()
	r, err := http.NewRequestWithContext(w.tb.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.tb.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.tb.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	var content bytes.Buffer
	if _, err := io.Copy(&content, response.Body); err != nil {
		w.tb.Fatalf("%s %s: %v", method, path, err)
	}
	return response, content.Bytes()
}
