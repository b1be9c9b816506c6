package workertest

import (
	"slices"
	"time"

	"github.com/slipway-build/slipway/worker/wire"
)

// runningCases are about attempts that run.
var runningCases = []workerTest{
	{
		name:     "WholeLife",
		contract: "A build that was started runs, its log comes whole, and finished comes after its log was acknowledged.",
		check: func(c *workerCase) {
			s := c.session()
			s.Manual(TypeLog)
			ref := s.Run(c.Print("hello\n"), nil)
			frame := Await[*wire.LogFrame](s.Peer, nil)
			if frame.Ref != ref || frame.Offset != 0 {
				c.Errorf("the first log frame is %+v", frame)
			}
			c.beats(s, 5)
			if n := count[*wire.Finished](s.Peer, nil); n != 0 {
				c.Errorf("%d reports before the log was acknowledged", n)
			}
			s.Automatic(TypeLog)
			s.Send(&wire.LogNack{Ref: ref})
			c.wantSuccess(s, ref, []byte("hello\n"))
			Await(s.Peer, func(m *wire.Heartbeat) bool { return m.FreeSlots == 1 && len(m.Leases) == 0 })
		},
	},
	{
		name:     "FinishedAgain",
		contract: "finished is repeated until finished_ok comes, saying the same each time; until then its attempt is in every heartbeat.",
		check: func(c *workerCase) {
			s := c.session()
			s.Manual(wire.TypeFinished)
			ref := s.Run(c.Print("x"), nil)
			first, second := s.Finished(ref), s.Finished(ref)
			if first.Outcome != second.Outcome || first.LogLen != second.LogLen || first.LogSHA256 != second.LogSHA256 {
				c.Errorf("%+v is followed by %+v", first, second)
			}
			if m := c.beats(s, 1); !slices.Equal(m.Leases, []wire.Ref{ref}) {
				c.Errorf("a heartbeat is %+v", m)
			}
			s.Send(&wire.FinishedOK{Ref: ref})
			Await(s.Peer, func(m *wire.Heartbeat) bool { return m.FreeSlots == 1 && len(m.Leases) == 0 })
		},
	},
	{
		name:     "FinishedOverAnother",
		contract: "A report that was not answered is made again over the next connection, whose hello says that the attempt has finished.",
		check: func(c *workerCase) {
			s := c.session()
			s.Manual(wire.TypeFinished)
			ref := s.Run(c.Print("x"), nil)
			s.Finished(ref)
			s.Drop()
			s = c.controller.Next()
			if r := s.Hello.Running; len(r) != 1 || r[0].Ref != ref || r[0].State != wire.StageFinished || r[0].LogLen != 1 {
				c.Errorf("hello says %+v", r)
			}
			s.Welcome(wire.Decision{Ref: ref, Action: wire.ActionResendResult, LogOffset: 1})
			c.wantSuccess(s, ref, []byte("x"))
		},
	},
	{
		name:     "Cancel",
		contract: "An attempt that is canceled is ended, which cancelling says for each cancel, and reported as canceled.",
		check: func(c *workerCase) {
			s, ref := c.waiting()
			s.Cancel(ref, true)
			if end := s.Finished(ref); end.Outcome != wire.OutcomeCanceled {
				c.Errorf("the report is %+v", end)
			}
			eventually(c.T, "the worker has said cancelling, before or after", func() bool {
				return count(s.Peer, func(m *wire.Cancelling) bool { return m.Ref == ref }) > 0
			})
		},
	},
	{
		name:     "CancelByHeartbeat",
		contract: "A cancel that only the answer to a heartbeat carries is as good.",
		check: func(c *workerCase) {
			s, ref := c.waiting()
			s.Cancel(ref, false)
			if end := s.Finished(ref); end.Outcome != wire.OutcomeCanceled {
				c.Errorf("the report is %+v", end)
			}
		},
	},
	{
		name:     "Keep",
		contract: "A build goes on while its worker is not connected; hello names it, and what welcome keeps is finished as if nothing had been.",
		check: func(c *workerCase) {
			s, ref := c.waiting()
			s.Drop()
			s = c.controller.Next()
			if r := s.Hello.Running; len(r) != 1 || r[0].Ref != ref || r[0].State != wire.StageRunning || r[0].LogLen != 6 {
				c.Errorf("hello says %+v", r)
			}
			s.Welcome(wire.Decision{Ref: ref, Action: wire.ActionKeep, LogOffset: 6})
			if m := c.beats(s, 1); !slices.Equal(m.Leases, []wire.Ref{ref}) {
				c.Errorf("a heartbeat is %+v", m)
			}
			s.Cancel(ref, true)
			c.wantLog(ref, s.Finished(ref), []byte("ready\n"))
		},
	},
	{
		name:     "KeepAccepted",
		contract: "What was accepted and not started is in hello as accepted; kept, it waits for its start and runs then.",
		check: func(c *workerCase) {
			s := c.session()
			offer := s.Offer(c.Print("x"), nil)
			s.Accepted(offer.Ref)
			s.Drop()
			s = c.controller.Next()
			if r := s.Hello.Running; len(r) != 1 || r[0].Ref != offer.Ref || r[0].State != wire.StageAccepted {
				c.Errorf("hello says %+v", r)
			}
			s.Welcome(wire.Decision{Ref: offer.Ref, Action: wire.ActionKeep})
			s.Accepted(offer.Ref)
			s.Start(offer.Ref)
			c.wantSuccess(s, offer.Ref, []byte("x"))
		},
	},
	{
		name:     "DecideCancel",
		contract: "What welcome decides to cancel is ended, and reported as canceled.",
		check: func(c *workerCase) {
			s, ref := c.waiting()
			s.Drop()
			s = c.controller.Welcomed(wire.Decision{Ref: ref, Action: wire.ActionCancel, LogOffset: 6})
			if end := s.Finished(ref); end.Outcome != wire.OutcomeCanceled {
				c.Errorf("the report is %+v", end)
			}
		},
	},
	{
		name:     "Abandon",
		contract: "What welcome abandons is killed and forgotten, and nothing more is said of it.",
		check: func(c *workerCase) {
			s, ref := c.waiting()
			s.Drop()
			s = c.controller.Welcomed(wire.Decision{Ref: ref, Action: wire.ActionAbandon, LogOffset: 6})
			c.forgotten(s, ref)
		},
	},
	{
		name:     "Lost",
		contract: "What the answer to a heartbeat has lost is killed and forgotten, and nothing more is said of it.",
		check: func(c *workerCase) {
			s, ref := c.waiting()
			s.Lose(ref)
			c.forgotten(s, ref)
		},
	},
	{
		name:     "Stale",
		contract: "An error of stale_lease, to whatever it is, is as good as a lost lease.",
		check: func(c *workerCase) {
			s, ref := c.waiting()
			s.Send(&wire.Error{Code: wire.CodeStaleLease, Build: ref.Build, Epoch: ref.Epoch})
			c.forgotten(s, ref)
		},
	},
	{
		name:     "Internal",
		contract: "An error of internal changes nothing: accept and finished are repeated.",
		check: func(c *workerCase) {
			s := c.session()
			offer := s.Offer(c.Print("x"), nil)
			s.Accepted(offer.Ref)
			s.Send(&wire.Error{Code: wire.CodeInternal, Re: wire.TypeAccept, Build: offer.Build, Epoch: offer.Epoch})
			s.Accepted(offer.Ref)
			s.Manual(wire.TypeFinished)
			s.Start(offer.Ref)
			s.Finished(offer.Ref)
			s.Send(&wire.Error{Code: wire.CodeInternal, Re: wire.TypeFinished, Build: offer.Build, Epoch: offer.Epoch})
			s.Automatic(wire.TypeFinished)
			c.wantSuccess(s, offer.Ref, []byte("x"))
		},
	},
	{
		name:     "LeaseOver",
		contract: "A worker whose lease is over ends the attempt by its own clock, connected or not, and reports it as lost if it is still asked.",
		options:  ControllerOptions{Lease: 2 * time.Second, KillTime: 2 * time.Second},
		check: func(c *workerCase) {
			s, ref := c.waiting()
			c.controller.Refuse(503)
			s.Drop()
			dropped := time.Now()
			eventually(c.T, "lease and kill time are over", func() bool { return time.Since(dropped) > 5*time.Second })
			c.controller.Refuse(0)
			s = c.controller.Next()
			if r := s.Hello.Running; len(r) != 1 || r[0].Ref != ref || r[0].State != wire.StageFinished {
				c.Errorf("hello says %+v", r)
			}
			s.Welcome(wire.Decision{Ref: ref, Action: wire.ActionKeep, LogOffset: 6})
			if end := s.Finished(ref); end.Outcome != wire.OutcomeLost {
				c.Errorf("the report is %+v", end)
			}
		},
	},
	{
		name:     "TimedOut",
		contract: "An attempt that runs longer than its run timeout is ended, and reported as timed_out.",
		options:  ControllerOptions{RunTimeout: time.Second},
		check: func(c *workerCase) {
			s := c.session()
			if end := s.Finished(s.Run(c.Wait, nil)); end.Outcome != wire.OutcomeTimedOut {
				c.Errorf("the report is %+v", end)
			}
		},
	},
	{
		name:     "Source",
		contract: "The source is fetched with the build token whose hash accept had, and the build runs then.",
		needs:    func(p *Program) bool { return p.Source != nil },
		check: func(c *workerCase) {
			s := c.session()
			c.wantSuccess(s, s.Run(c.Print("x"), c.Program.Source(c.T)), []byte("x"))
		},
	},
	{
		name:     "OtherSource",
		contract: "Nothing runs of a source whose digest is not that of the offer: the build has failed.",
		needs:    func(p *Program) bool { return p.Source != nil },
		check: func(c *workerCase) {
			s := c.session()
			offer := s.newOffer(c.Print("x"), c.Program.Source(c.T))
			offer.Source.SHA256[0] ^= 1 // nothing else is wrong with what is served
			s.Send(offer)
			s.Accepted(offer.Ref)
			s.Start(offer.Ref)
			if end := s.Finished(offer.Ref); end.Outcome != wire.OutcomeFailed {
				c.Errorf("the report is %+v", end)
			}
		},
	},
	{
		name:     "Artifact",
		contract: "An artifact is announced and uploaded with its digest, before finished, which counts it.",
		needs:    func(p *Program) bool { return p.Artifact != nil },
		check: func(c *workerCase) {
			s := c.session()
			ref := s.Run(c.Program.Artifact("out.txt", "content"), nil)
			end := s.Finished(ref)
			if content, ok := c.controller.Artifact(ref, "out.txt"); end.Artifacts != 1 || end.Partial || !ok || string(content) != "content" {
				c.Errorf("the report is %+v, the artifact %t, %q", end, ok, content)
			}
		},
	},
}

// forgotten waits until the worker has a free slot again, runs another build, and has not reported the one that it was to forget.
func (c *workerCase) forgotten(s *Session, ref wire.Ref) {
	c.Helper()
	Await(s.Peer, func(m *wire.Heartbeat) bool { return m.FreeSlots == 1 && len(m.Leases) == 0 })
	c.wantSuccess(s, s.Run(c.Print("x"), nil), []byte("x"))
	if n := count(s.Peer, func(m *wire.Finished) bool { return m.Ref == ref }); n != 0 {
		c.Errorf("%d reports of an attempt that was to be forgotten", n)
	}
}
