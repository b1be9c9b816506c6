package peer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A connection is served by one goroutine, which acts, and a second one, which reads.
type connection struct {
	worker   *Worker
	conn     *websocket.Conn
	frame    int   // log bytes of a frame
	window   int64 // of a log, at the beginning
	lease    time.Duration
	beats    map[int64]time.Time // when the heartbeats were sent that were not answered yet
	seq      int64
	answered int64 // the newest heartbeat that was
	sent     int   // log bytes
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

type welcome struct {
	Heartbeat int64 `json:"heartbeat"`
	Lease     int64 `json:"lease"`
	Limits    struct {
		LogFrame  int   `json:"log_frame"`
		LogWindow int64 `json:"log_window"`
	} `json:"limits"`
	Decisions []struct {
		id
		Action    string `json:"action"`
		LogOffset int64  `json:"log_offset"`
	} `json:"decisions"`
}

func (c *connection) send(ctx context.Context, kind string, data map[string]any) error {
	frame, err := json.Marshal(map[string]any{"t": kind, "d": data})
	if err != nil {
		return err
	}
	return c.write(ctx, websocket.MessageText, frame)
}

func (c *connection) write(ctx context.Context, kind websocket.MessageType, frame []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return c.conn.Write(ctx, kind, frame)
}

// serve says hello and acts on what comes until the connection ends.
func (c *connection) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	frames := make(chan []byte)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer cancel(nil)
	reader.Go(func() { cancel(c.read(ctx, frames)) })

	helloSent := time.Now()
	if err := c.send(ctx, "hello", c.worker.hello()); err != nil {
		return ended(ctx, err)
	}
	beat := time.NewTicker(c.worker.Welcome) // which is for the answer to hello, at first
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case frame := <-frames:
			err = c.receive(ctx, frame, helloSent, beat)
		case <-beat.C:
			err = c.heartbeat(ctx)
		}
		if err == nil && c.frame > 0 {
			err = c.proceed(ctx)
		}
		if err != nil {
			return ended(ctx, err)
		}
	}
}

// ended returns what the reading side knows of the end, which is more.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (c *connection) read(ctx context.Context, frames chan<- []byte) error {
	for {
		within, cancel := context.WithTimeout(ctx, 30*time.Second)
		kind, frame, err := c.conn.Read(within)
		cancel()
		if err != nil {
			return err
		}
		if kind != websocket.MessageText {
			return c.conn.Close(websocket.StatusProtocolError, "only workers send logs")
		}
		select {
		case frames <- frame:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// heartbeat renews the lease, unless too many were not answered.
func (c *connection) heartbeat(ctx context.Context) error {
	if c.frame == 0 {
		return errors.New("no welcome came in time")
	}
	now := time.Now()
	for seq, sent := range c.beats {
		if seq > c.answered && now.Sub(sent) > c.lease*2/3 {
			return errors.New("heartbeats are not answered: another controller may renew what is left of the lease")
		}
	}
	if a := c.worker.attempt; a != nil {
		a.watch(now)
	}
	c.seq++
	c.beats[c.seq] = now
	free, leases := 1, []id{}
	if a := c.worker.attempt; a != nil {
		free, leases = 0, append(leases, a.id)
	}
	return c.send(ctx, "heartbeat", map[string]any{"seq": c.seq, "leases": leases, "load": 0, "free_slots": free, "draining": c.worker.draining})
}

// receive acts on a text frame.
func (c *connection) receive(ctx context.Context, frame []byte, helloSent time.Time, beat *time.Ticker) error {
	var e envelope
	if err := json.Unmarshal(frame, &e); err != nil {
		return errors.Join(err, c.conn.Close(websocket.StatusProtocolError, "not an envelope"))
	}
	if c.frame == 0 && e.Type != "welcome" {
		return nil
	}
	switch e.Type {
	case "welcome":
		if c.frame > 0 {
			return nil
		}
		var m welcome
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return err
		}
		c.frame, c.window, c.lease = m.Limits.LogFrame, m.Limits.LogWindow, time.Duration(m.Lease)*time.Millisecond
		c.beats = make(map[int64]time.Time)
		beat.Reset(time.Duration(m.Heartbeat) * time.Millisecond)
		c.decide(&m, helloSent)
		return nil
	case "offer":
		return c.offer(ctx, e.Data)
	case "heartbeat_ok":
		return c.heartbeatOK(e.Data)
	case "start", "cancel", "log_ack", "log_nack", "log_limit", "finished_ok", "error":
		return c.about(ctx, e.Type, e.Data)
	case "drain":
		c.worker.draining = true
		return c.heartbeat(ctx)
	case "pause", "resume", "bye":
		return nil // which a worker need not heed
	default:
		if e.Must {
			return c.send(ctx, "error", map[string]any{"code": "unsupported"})
		}
		return nil
	}
}

// decide acts on what the controller has decided on what hello named.
func (c *connection) decide(m *welcome, helloSent time.Time) {
	a := c.worker.attempt
	if a == nil {
		return
	}
	a.said, a.window, a.length = time.Time{}, c.window, c.lease
	for _, d := range m.Decisions {
		if d.id != a.id {
			continue
		}
		a.acked, a.next = d.LogOffset, d.LogOffset
		switch d.Action {
		case "abandon":
			c.worker.attempt = nil
		case "cancel":
			a.cancel()
			a.renewed = helloSent
		case "keep":
			a.renewed = helloSent
		}
	}
}

func (c *connection) heartbeatOK(data []byte) error {
	var m struct {
		Seq    int64 `json:"seq"`
		Kept   []id  `json:"kept"`
		Lost   []id  `json:"lost"`
		Cancel []id  `json:"cancel"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	for _, ref := range m.Kept {
		if a := c.worker.find(ref); a != nil && c.beats[m.Seq].After(a.renewed) {
			a.renewed = c.beats[m.Seq]
		}
	}
	c.answered = max(c.answered, m.Seq)
	for seq := range c.beats {
		if seq <= c.answered {
			delete(c.beats, seq)
		}
	}
	for _, ref := range m.Cancel {
		if a := c.worker.find(ref); a != nil {
			a.cancel()
		}
	}
	for _, ref := range m.Lost {
		if c.worker.find(ref) != nil {
			c.worker.attempt = nil
		}
	}
	return nil
}

// about acts on a message about one attempt.
func (c *connection) about(ctx context.Context, kind string, data []byte) error {
	var m struct {
		id
		Code     string `json:"code"`
		Offset   int64  `json:"offset"`
		Window   int64  `json:"window"`
		Expected int64  `json:"expected"`
		Cap      int64  `json:"cap"`

		Secrets map[string]string `json:"secrets"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if kind != "error" && !uuid.MatchString(m.Build) {
		return errors.Join(errors.New("an id is malformed"), c.conn.Close(websocket.StatusProtocolError, "an id is malformed"))
	}
	a := c.worker.find(m.id)
	if a == nil && kind == "start" {
		return c.send(ctx, "finished", map[string]any{
			"build": m.Build, "epoch": m.Epoch, "outcome": "lost", "log_sha256": hex.EncodeToString(sha256.New().Sum(nil)),
		})
	}
	if a == nil {
		return nil
	}
	switch kind {
	case "start":
		a.renewed = a.accepted
		a.start(m.Secrets)
	case "cancel":
		a.cancel()
		return c.send(ctx, "cancelling", map[string]any{"build": m.Build, "epoch": m.Epoch})
	case "log_ack":
		a.acked, a.next, a.window = max(a.acked, m.Offset), max(a.next, m.Offset), m.Window
	case "log_nack":
		a.acked, a.next = m.Expected, m.Expected
	case "log_limit":
		a.limit = min(a.limit, m.Cap)
	case "finished_ok":
		c.worker.attempt = nil
	case "error":
		if m.Code == "stale_lease" || m.Code == "unknown_build" {
			c.worker.attempt = nil
		}
	}
	return nil
}

// offer accepts a build if nothing else runs.
func (c *connection) offer(ctx context.Context, data []byte) error {
	var m offer
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	reason := ""
	switch a := c.worker.find(m.id); {
	case a != nil:
		a.said = time.Time{} // so that it accepts again
		return nil
	case c.worker.draining:
		reason = "draining"
	case c.worker.attempt != nil:
		reason = "no_slot"
	default:
		c.worker.attempt = newAttempt(&m, c.window, c.lease)
		return nil
	}
	return c.send(ctx, "decline", map[string]any{"build": m.Build, "epoch": m.Epoch, "reason": reason})
}

func (w *Worker) find(ref id) *attempt {
	if w.attempt == nil || w.attempt.id != ref {
		return nil
	}
	return w.attempt
}

func (w *Worker) hello() map[string]any {
	list := []any{}
	if a := w.attempt; a != nil {
		list = append(list, map[string]any{"build": a.Build, "epoch": a.Epoch, "state": a.state, "log_len": len(a.log)})
	}
	return map[string]any{
		"worker": w.name, "instance": w.instance, "version": fmt.Sprintf("interop-%s", runtime.Version()), "os": runtime.GOOS, "arch": runtime.GOARCH,
		"slots": 1, "running": list, "draining": w.draining,
	}
}
