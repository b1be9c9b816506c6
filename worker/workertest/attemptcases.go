package workertest

import (
	"crypto/sha256"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// attemptCases are about the life of an attempt.
var attemptCases = []controllerTest{
	{
		"WholeLife",
		"A build that is offered, accepted, started, logged and finished has succeeded, with its log.",
		func(c *controllerCase) {
			w := c.worker()
			id := c.Submit(c.T, []byte("spec"), nil)
			a := w.Offered()
			if a.Build != id || a.Epoch != 1 || string(a.Spec) != "spec" || a.Source != nil {
				c.Errorf("the offer is %+v", a.Offer)
			}
			if state := c.State(c.T, id); state != queue.Offered {
				c.Errorf("the build is %v before it is accepted", state)
			}
			w.Accept(a)
			if state := c.State(c.T, id); state != queue.Running {
				c.Errorf("the build is %v after its start", state)
			}
			w.SendLog(a.Ref, 0, "hello\n")
			Await(w.Peer, func(m *wire.LogAck) bool { return m.Ref == a.Ref && m.Offset == 6 })
			w.Finish(a.Ref, "hello\n")
			c.wantState(id, queue.Succeeded)
			if log := c.Log(c.T, id); string(log) != "hello\n" {
				c.Errorf("the log is %q", log)
			}
		},
	},
	{
		"AcceptAgain",
		"accept may be repeated with the same hash, and is answered by start each time; with another hash it is stale.",
		func(c *controllerCase) {
			w, a := c.running()
			w.Accept(a)
			w.Accept(a)
			w.Send(&wire.Accept{Ref: a.Ref, TokenHash: queue.Digest{1}})
			c.wantError(w, wire.CodeStaleLease, a.Ref, wire.TypeAccept)
		},
	},
	{
		"Decline",
		"A declined build goes back: the attempt is stale from then on, and the build is offered again under a higher epoch.",
		func(c *controllerCase) {
			w := c.worker()
			id := c.Submit(c.T, []byte("spec"), nil)
			first := w.Offered()
			w.Send(&wire.Decline{Ref: first.Ref, Reason: wire.DeclinePreflight, Message: "no disk"})
			w.Send(&wire.Accept{Ref: first.Ref, TokenHash: first.Hash})
			c.wantError(w, wire.CodeStaleLease, first.Ref, wire.TypeAccept)
			second := w.Take()
			if second.Build != id || second.Epoch <= first.Epoch {
				c.Errorf("after %v comes %v", first.Ref, second.Ref)
			}
		},
	},
	{
		"NoSlot",
		"A worker that declines for want of a slot gets no offers until a heartbeat has a free one.",
		func(c *controllerCase) {
			w := c.worker()
			c.Submit(c.T, []byte("spec"), nil)
			w.Send(&wire.Decline{Ref: w.Offered().Ref, Reason: wire.DeclineNoSlot})
			<-time.After(500 * time.Millisecond) // in which another offer would have come
			if n := count[*wire.Offer](w.Peer, nil); n != 1 {
				c.Errorf("%d offers", n)
			}
			w.Beat()
			w.Take()
		},
	},
	{
		"OfferRunsOut",
		"An offer that is not answered runs out: accepting it is stale then, and the build is offered again under a higher epoch.",
		func(c *controllerCase) {
			w := c.worker()
			c.Submit(c.T, []byte("spec"), nil)
			first := w.Offered()
			eventually(c.T, "the build is offered again", func() bool {
				w.Beat() // for the connection must not be silent
				return count[*wire.Offer](w.Peer, nil) > 1
			})
			w.Send(&wire.Accept{Ref: first.Ref, TokenHash: first.Hash})
			c.wantError(w, wire.CodeStaleLease, first.Ref, wire.TypeAccept)
		},
	},
	{
		"Stale",
		"What is said of an attempt that is not the worker's is answered by stale_lease and changes nothing.",
		func(c *controllerCase) {
			w, a := c.running()
			for _, ref := range []wire.Ref{{Build: a.Build, Epoch: a.Epoch + 1}, {Build: queue.NewID(), Epoch: 1}} {
				w.Send(&wire.Accept{Ref: ref, TokenHash: a.Hash})
				c.wantError(w, wire.CodeStaleLease, ref, wire.TypeAccept)
				w.Send(succeeded(ref, ""))
				c.wantError(w, wire.CodeStaleLease, ref, wire.TypeFinished)
				w.SendLog(ref, 0, "stranger")
				c.wantError(w, wire.CodeStaleLease, ref, "")
			}
			if state := c.State(c.T, a.Build); state != queue.Running {
				c.Errorf("the build is %v", state)
			}
			w.SendLog(a.Ref, 0, "own")
			Await(w.Peer, func(m *wire.LogAck) bool { return m.Offset == 3 })
			if log := c.Log(c.T, a.Build); string(log) != "own" {
				c.Errorf("the log is %q", log)
			}
		},
	},
	{
		"Log",
		"Log bytes that are stored already are dropped, a gap is answered by log_nack, and the rest by log_ack when it is stored.",
		func(c *controllerCase) {
			w, a := c.running()
			w.SendLog(a.Ref, 5, "behind")
			if m := Await[*wire.LogNack](w.Peer, nil); m.Ref != a.Ref || m.Expected != 0 {
				c.Errorf("the answer to a gap is %+v", m)
			}
			for _, frame := range []struct {
				offset, end int64
				data        string
			}{{0, 4, "0123"}, {2, 6, "2345"}, {0, 6, "0"}, {6, 8, "67"}} {
				w.SendLog(a.Ref, frame.offset, frame.data)
				m := Await[*wire.LogAck](w.Peer, nil)
				if log := c.Log(c.T, a.Build); m.Offset != frame.end || int64(len(log)) != frame.end {
					c.Errorf("after %q at %d the answer is %+v and the log is %q", frame.data, frame.offset, m, log)
				}
			}
			if log := c.Log(c.T, a.Build); string(log) != "01234567" {
				c.Errorf("the log is %q", log)
			}
		},
	},
	{
		"FinishedAgain",
		"finished may be repeated: it is answered by finished_ok each time, and only the first one counts.",
		func(c *controllerCase) {
			w, a := c.running()
			w.Finish(a.Ref, "")
			w.Finish(a.Ref, "")
			other := succeeded(a.Ref, "")
			other.Outcome, other.ExitCode = wire.OutcomeFailed, new(1)
			w.Send(other)
			Await[*wire.FinishedOK](w.Peer, nil)
			c.wantState(a.Build, queue.Succeeded)
		},
	},
	{
		"FinishedLost",
		"A build whose worker reports it as lost is attempted again, under a higher epoch.",
		func(c *controllerCase) {
			w, a := c.running()
			w.Send(&wire.Finished{Ref: a.Ref, Outcome: wire.OutcomeLost, LogSHA256: sha256.Sum256(nil)})
			Await[*wire.FinishedOK](w.Peer, nil)
			w.Beat() // which says that its slot is free
			if again := w.Take(); again.Build != a.Build || again.Epoch <= a.Epoch {
				c.Errorf("after %v comes %v", a.Ref, again.Ref)
			}
		},
	},
	{
		"Cancel",
		"A build that is canceled is so by cancel, and by every heartbeat_ok, until the worker reports its end.",
		func(c *controllerCase) {
			w, a := c.running()
			c.Cancel(c.T, a.Build)
			if m := Await[*wire.Cancel](w.Peer, nil); m.Ref != a.Ref || m.Grace == 0 {
				c.Errorf("the cancel is %+v", m)
			}
			w.Send(&wire.Cancelling{Ref: a.Ref})
			for range 2 {
				if ok := w.Beat(a.Ref); len(ok.Cancel) != 1 || ok.Cancel[0].Ref != a.Ref || len(ok.Kept) != 1 {
					c.Errorf("a heartbeat is answered with %+v", ok)
				}
			}
			w.Send(&wire.Finished{Ref: a.Ref, Outcome: wire.OutcomeCanceled, LogSHA256: sha256.Sum256(nil)})
			Await[*wire.FinishedOK](w.Peer, nil)
			c.wantState(a.Build, queue.Canceled)
		},
	},
	{
		"CancelOffered",
		"A build that is canceled before it is accepted is stale when it is.",
		func(c *controllerCase) {
			w := c.worker()
			c.Submit(c.T, []byte("spec"), nil)
			a := w.Offered()
			c.Cancel(c.T, a.Build)
			w.Send(&wire.Accept{Ref: a.Ref, TokenHash: a.Hash})
			c.wantError(w, wire.CodeStaleLease, a.Ref, wire.TypeAccept)
		},
	},
	{
		"Keep",
		"After a reconnect welcome keeps what the worker runs and says how much of its log is stored; it goes on from there.",
		func(c *controllerCase) {
			w, a := c.running()
			w.SendLog(a.Ref, 0, "0123")
			Await[*wire.LogAck](w.Peer, nil)
			w.Drop()
			w = w.Again()
			d := c.decision(w.Hello(reported(a.Ref, wire.StageRunning, 6)), a.Ref)
			if d.Action != wire.ActionKeep || d.LogOffset != 4 {
				c.Errorf("the decision is %+v", d)
			}
			w.SendLog(a.Ref, 4, "45")
			Await(w.Peer, func(m *wire.LogAck) bool { return m.Offset == 6 })
			w.Finish(a.Ref, "012345")
			c.wantState(a.Build, queue.Succeeded)
		},
	},
	{
		"StartAgain",
		"What hello says is accepted, and is running for the database, is kept and sent its start again.",
		func(c *controllerCase) {
			w, a := c.running()
			w.Drop()
			w = w.Again()
			d := c.decision(w.Hello(reported(a.Ref, wire.StageAccepted, 0)), a.Ref)
			if d.Action != wire.ActionKeep {
				c.Errorf("the decision is %+v", d)
			}
			Await(w.Peer, func(m *wire.Start) bool { return m.Ref == a.Ref })
		},
	},
	{
		"Abandon",
		"An attempt in hello that is not the worker's is to be abandoned.",
		func(c *controllerCase) {
			w := c.dial()
			ref := wire.Ref{Build: queue.NewID(), Epoch: 7}
			if d := c.decision(w.Hello(reported(ref, wire.StageRunning, 10)), ref); d.Action != wire.ActionAbandon {
				c.Errorf("the decision is %+v", d)
			}
		},
	},
	{
		"ResendResult",
		"An attempt in hello whose end is stored is to be reported again, so that the worker gets its finished_ok.",
		func(c *controllerCase) {
			w, a := c.running()
			w.Finish(a.Ref, "")
			w.Drop()
			w = w.Again()
			d := c.decision(w.Hello(reported(a.Ref, wire.StageFinished, 0)), a.Ref)
			if d.Action != wire.ActionResendResult {
				c.Errorf("the decision is %+v", d)
			}
			w.Finish(a.Ref, "")
			c.wantState(a.Build, queue.Succeeded)
		},
	},
	{
		"CancelMeanwhile",
		"What was canceled while the worker was away is decided to be canceled.",
		func(c *controllerCase) {
			w, a := c.running()
			w.Drop()
			c.Cancel(c.T, a.Build)
			w = w.Again()
			if d := c.decision(w.Hello(reported(a.Ref, wire.StageRunning, 0)), a.Ref); d.Action != wire.ActionCancel {
				c.Errorf("the decision is %+v", d)
			}
		},
	},
	{
		"OldConnection",
		"An older connection to the same controller is closed before welcome: what it still sends changes nothing.",
		func(c *controllerCase) {
			old, a := c.running()
			fresh := old.Again()
			fresh.Hello(reported(a.Ref, wire.StageRunning, 0))
			old.SendLog(a.Ref, 0, strings.Repeat("x", 10))
			old.Ended()
			fresh.SendLog(a.Ref, 0, "fresh")
			Await(fresh.Peer, func(m *wire.LogAck) bool { return m.Offset >= 5 })
			fresh.Finish(a.Ref, "fresh")
			c.wantState(a.Build, queue.Succeeded)
			if log := c.Log(c.T, a.Build); string(log) != "fresh" {
				c.Errorf("the log is %q", log)
			}
		},
	},
}
