package workertest_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
	"github.com/slipway-build/slipway/worker/workertest"
)

// startProxy starts a proxy that ends with the test, and sees that it leaves nothing behind.
func startProxy(t *testing.T, target string) *workertest.Proxy {
	t.Helper()
	p, err := workertest.StartProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// An echo answers with what it is sent, and closes the connection if asked to.
func echo(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/last" {
			w.Header().Set("Connection", "close")
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s
}

func post(t *testing.T, target string, body []byte) ([]byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func TestProxyBytes(t *testing.T) {
	before := runtime.NumGoroutine()
	p := startProxy(t, echo(t).URL)
	text := make([]byte, 3<<20)
	_, _ = rand.Read(text)
	for _, path := range []string{"/", "/last"} {
		if got, err := post(t, p.URL()+path, text); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes came back, or others: %v", path, len(got), err)
		}
	}
	p.CutAfter(1 << 20)
	if got, err := post(t, p.URL(), text); err == nil {
		t.Errorf("%d bytes came back over a connection that was cut", len(got))
	}
	if got, err := post(t, p.URL(), text[:10]); err != nil || !bytes.Equal(got, text[:10]) {
		t.Errorf("after the cut: %q, %v", got, err)
	}
	p.Refuse(true)
	if _, err := post(t, p.URL(), text); err == nil {
		t.Error("nobody was refused")
	}
	p.Refuse(false)
	p.Hold(workertest.ToWorker)
	answered := make(chan error, 1)
	go func() {
		_, err := post(t, p.URL(), text[:10])
		answered <- err
	}()
	until(t, "the answer stands still", func() bool { return p.Counts().Held > 0 })
	select {
	case err := <-answered:
		t.Errorf("an answer came through: %v", err)
	default:
	}
	p.Release()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	p.Throttle(workertest.ToController, 1<<20)
	begun := time.Now()
	if _, err := post(t, p.URL(), text[:1<<18]); err != nil || time.Since(begun) < 200*time.Millisecond {
		t.Errorf("256 KiB at 1 MiB/s took %v, %v", time.Since(begun), err)
	}
	if c := p.Counts(); c.Refused != 1 || c.Cut < 1 || c.Connections < 6 || c.Frames != 0 {
		t.Errorf("counts %+v", c)
	}
	p.Close()
	until(t, "nothing is left", func() bool { return runtime.NumGoroutine() <= before+3 })
}

// enter connects a worker to a controller through a proxy.
func enter(t *testing.T, c *workertest.Controller, p *workertest.Proxy) (*workertest.Worker, *workertest.Session) {
	t.Helper()
	w := workertest.Dial(t, p.URL(), name, credential)
	w.Send(&wire.Hello{Worker: name, Instance: queue.NewID(), Version: "1", OS: "linux", Arch: "amd64", Slots: 1})
	s := c.Welcomed()
	workertest.Await(w.Peer, func(*wire.Welcome) bool { return true })
	return w, s
}

// Frames are lost, doubled and swapped as is judged, in a worker's masked frames and a controller's.
func TestProxyFrames(t *testing.T) {
	c := workertest.NewController(t, nil)
	p := startProxy(t, c.URL())
	verdicts := map[int64]workertest.Verdict{2: workertest.Lose, 3: workertest.Double, 4: workertest.Swap, 7: workertest.Swap}
	var logs atomic.Int64
	p.Judge(func(f workertest.Frame) workertest.Verdict {
		switch {
		case f.Type == wire.TypeHeartbeat:
			m, err := wire.Decode(f.Payload)
			if err != nil {
				t.Error(err)
				return workertest.Pass
			}
			return verdicts[m.(*wire.Heartbeat).Seq]
		case f.Type == workertest.TypeLog:
			logs.Add(int64(len(f.Payload)))
		case f.Type == wire.TypeHeartbeatOK && f.Direction == workertest.ToWorker:
			return workertest.Double
		}
		return workertest.Pass
	})
	w, s := enter(t, c, p)
	for seq := range int64(8) {
		w.Send(&wire.Heartbeat{Seq: seq + 1, FreeSlots: 1})
	}
	ref := wire.Ref{Build: queue.NewID(), Epoch: 1}
	w.SendLog(ref, 0, string(make([]byte, 65_536)))
	seen := func() (seqs []int64) {
		for _, m := range s.Received() {
			if b, ok := m.(*wire.Heartbeat); ok {
				seqs = append(seqs, b.Seq)
			}
		}
		return seqs
	}
	want := []int64{1, 3, 3, 5, 4, 6, 8, 7}
	until(t, "all heartbeats are there", func() bool { return len(seen()) >= len(want) && logs.Load() > 65_536 })
	if got := seen(); !slices.Equal(got, want) {
		t.Errorf("heartbeats %v, want %v", got, want)
	}
	answers := func() (n int) {
		for _, m := range w.Received() {
			if _, ok := m.(*wire.HeartbeatOK); ok {
				n++
			}
		}
		return n
	}
	until(t, "all answers are there twice", func() bool { return answers() == 2*len(want) })
	if c := p.Counts(); c.Lost != 1 || c.Doubled != 1+len(want) || c.Swapped != 2 || c.Frames < 19 {
		t.Errorf("counts %+v", c)
	}
}

// A dead connection says nothing to anybody, an orphaned one nothing to the controller; new ones go through.
func TestProxyDeath(t *testing.T) {
	c := workertest.NewController(t, nil)
	p := startProxy(t, c.URL())
	dead, _ := enter(t, c, p)
	p.Deaden()
	dead.Send(&wire.Heartbeat{Seq: 1})
	until(t, "the heartbeat is swallowed", func() bool { return p.Counts().Swallowed > 0 })
	orphan, session := enter(t, c, p)
	p.Orphan()
	orphan.Ended()
	fresh, other := enter(t, c, p)
	fresh.Send(&wire.Heartbeat{Seq: 7})
	workertest.Await(other.Peer, func(b *wire.Heartbeat) bool { return b.Seq == 7 })
	session.Send(&wire.Drain{}) // it does not know
	p.Cut()
	fresh.Ended()
	other.Ended()
	if c := p.Counts(); c.Cut != 3 {
		t.Errorf("counts %+v", c)
	}
}

func TestStartProxyRefuses(t *testing.T) {
	for _, target := range []string{"", "127.0.0.1:80", "https://127.0.0.1:80", "http://127.0.0.1"} {
		if p, err := workertest.StartProxy(target); err == nil {
			p.Close()
			t.Errorf("%q is taken", target)
		}
	}
}

func ExampleProxy() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer server.Close()
	proxy, err := workertest.StartProxy(server.URL)
	if err != nil {
		panic(err)
	}
	defer proxy.Close()
	proxy.CutAfter(10)             // in the middle of the request
	_, err = http.Get(proxy.URL()) //nolint:bodyclose,noctx // there is no answer
	fmt.Println("an error:", err != nil)
	fmt.Println("cut:", proxy.Counts().Cut)
	// Output:
	// an error: true
	// cut: 1
}
