package workertest

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/slipway-build/slipway/worker/wire"
)

// text returns a log of at least size bytes, each of whose lines differs.
func text(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// loggingCases are about logs.
var loggingCases = []workerTest{
	{
		name:     "Secrets",
		contract: "What a build prints of the secrets that came with its start is not in its log, and the report is of the log without.",
		check: func(c *workerCase) {
			const secret = "correct-horse-battery-staple"
			s := c.session()
			offer := s.Offer(c.Print("before "+secret+" after\n"), nil)
			s.Accepted(offer.Ref)
			s.Send(&wire.Start{
				Ref: offer.Ref, Lease: wire.MillisOf(c.controller.opts.Lease), Secrets: wire.Secrets{"OTHER": "another-secret", "TESTED": secret},
			})
			end := s.Finished(offer.Ref)
			log := c.controller.Log(offer.Ref)
			if bytes.Contains(log, []byte(secret)) || !bytes.HasPrefix(log, []byte("before ")) || !bytes.HasSuffix(log, []byte(" after\n")) {
				c.Errorf("the log is %q", log)
			}
			if end.Outcome != wire.OutcomeSucceeded || strings.Contains(string(end.Reason), secret) {
				c.Errorf("the report is %+v", end)
			}
			c.wantLog(offer.Ref, end, log)
		},
	},
	{
		name:     "Window",
		contract: "A worker sends no more log bytes in a frame, and no more ahead of what is acknowledged, than welcome allows.",
		options:  ControllerOptions{LogFrame: 1000, LogWindow: 3000},
		check: func(c *workerCase) {
			log := text(20_000)
			s := c.session()
			s.Manual(TypeLog)
			ref := s.Run(c.Print(log), nil)
			Await(s.Peer, func(m *wire.LogFrame) bool { return m.Offset+int64(len(m.Data)) == 3000 })
			c.beats(s, 3)
			if n := count(s.Peer, func(m *wire.LogFrame) bool { return m.Offset+int64(len(m.Data)) > 3000 }); n != 0 {
				c.Errorf("%d frames beyond the window", n)
			}
			s.Automatic(TypeLog)
			s.Send(&wire.LogNack{Ref: ref})
			c.wantSuccess(s, ref, []byte(log))
			c.withinWindow(s, ref)
		},
	},
	{
		name:     "NoWindow",
		contract: "After a log_ack with a window of zero nothing more is sent until another log_ack.",
		options:  ControllerOptions{LogFrame: 1000, LogWindow: 3000},
		check: func(c *workerCase) {
			log := text(20_000)
			s := c.session()
			s.Manual(TypeLog)
			ref := s.Run(c.Print(log), nil)
			Await(s.Peer, func(m *wire.LogFrame) bool { return m.Offset+int64(len(m.Data)) == 3000 })
			s.Send(&wire.LogAck{Ref: ref, Offset: 3000, Window: 0})
			c.beats(s, 5)
			if n := count(s.Peer, func(m *wire.LogFrame) bool { return m.Offset >= 3000 }); n != 0 {
				c.Errorf("%d frames have come without a window", n)
			}
			s.Automatic(TypeLog)
			s.Send(&wire.LogNack{Ref: ref})
			s.Send(&wire.LogAck{Ref: ref, Window: 3000})
			c.wantSuccess(s, ref, []byte(log))
		},
	},
	{
		name:     "Nack",
		contract: "After log_nack a worker goes back to what is stored, and sends from there.",
		check: func(c *workerCase) {
			log := text(200_000)
			s := c.session()
			s.Manual(TypeLog)
			ref := s.Run(c.Print(log), nil)
			Await(s.Peer, func(m *wire.LogFrame) bool { return m.Offset > 0 })
			s.Automatic(TypeLog)
			s.Send(&wire.LogNack{Ref: ref})
			Await(s.Peer, func(m *wire.LogFrame) bool { return m.Offset == 0 })
			c.wantSuccess(s, ref, []byte(log))
		},
	},
	{
		name:     "Unacknowledged",
		contract: "Log bytes that are not acknowledged are sent again.",
		check: func(c *workerCase) {
			s := c.session()
			s.Manual(TypeLog)
			ref := s.Run(c.Print("hello\n"), nil)
			Await[*wire.LogFrame](s.Peer, nil)
			Await(s.Peer, func(m *wire.LogFrame) bool { return m.Offset == 0 })
			s.Automatic(TypeLog)
			c.wantSuccess(s, ref, []byte("hello\n"))
		},
	},
	{
		name:     "LogOffset",
		contract: "Over a new connection the log goes on where welcome says that it is stored to.",
		check: func(c *workerCase) {
			s, ref := c.waiting()
			s.Drop()
			s = c.controller.Next()
			s.Manual(TypeLog)
			s.Welcome(wire.Decision{Ref: ref, Action: wire.ActionKeep, LogOffset: 2})
			if frame := Await[*wire.LogFrame](s.Peer, nil); frame.Offset != 2 || string(frame.Data) != "ady\n" {
				c.Errorf("the log goes on with %q at %d", frame.Data, frame.Offset)
			}
		},
	},
	{
		name:     "LogLimit",
		contract: "After log_limit a worker sends no more of the log, and finished covers what is stored.",
		check: func(c *workerCase) {
			log := text(200_000)
			s := c.session()
			s.Manual(TypeLog)
			ref := s.Run(c.Print(log), nil)
			Await[*wire.LogFrame](s.Peer, nil)
			s.Send(&wire.LogAck{Ref: ref, Offset: 10})
			s.Send(&wire.LogLimit{Ref: ref, Cap: 10})
			end := s.Finished(ref)
			if want := succeeded(ref, log[:10]); end.Outcome != wire.OutcomeSucceeded || end.LogLen != 10 || end.LogSHA256 != want.LogSHA256 {
				c.Errorf("the report is %+v", end)
			}
		},
	},
	{
		name:     "LogCap",
		contract: "A worker sends no more of a log than the offer allows, and finished covers that.",
		options:  ControllerOptions{LogCap: 1000},
		check: func(c *workerCase) {
			log := text(5000)
			s := c.session()
			ref := s.Run(c.Print(log), nil)
			end := s.Finished(ref)
			got := c.controller.Log(ref)
			if int64(len(got)) != end.LogLen || end.LogLen > 1000 || end.LogLen == 0 || end.LogSHA256 != succeeded(ref, string(got)).LogSHA256 {
				c.Errorf("%d bytes have come; the report is %+v", len(got), end)
			}
			if end.Outcome != wire.OutcomeSucceeded || !bytes.HasPrefix([]byte(log), got[:min(len(got), 500)]) {
				c.Errorf("the build ended as %s, and its log begins with %.40q", end.Outcome, got)
			}
		},
	},
}

// withinWindow checks that each frame was within the window of an acknowledgement that can have been read before it was sent: the one that
// covers all that had come before.
func (c *workerCase) withinWindow(s *Session, ref wire.Ref) {
	c.Helper()
	o := &c.controller.opts
	stored := int64(0)
	for _, m := range s.Received() {
		frame, ok := m.(*wire.LogFrame)
		if !ok || frame.Ref != ref {
			continue
		}
		end := frame.Offset + int64(len(frame.Data))
		if end > stored+o.LogWindow {
			c.Errorf("a frame ends at %d, though %d bytes at most were acknowledged", end, stored)
		}
		if frame.Offset <= stored {
			stored = max(stored, end)
		}
	}
}
