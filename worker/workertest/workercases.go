package workertest

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

var workerCases = slices.Concat(greetingCases, runningCases, loggingCases)

// greetingCases are about connections, offers, and what holds for every frame.
var greetingCases = []workerTest{
	{
		name:     "Handshake",
		contract: "A worker connects to /v1/worker/connect with its credential in the Authorization header alone, no Origin and the versions it speaks.",
		check: func(c *workerCase) {
			s := c.session()
			r := c.controller.Handshakes()[0]
			if r.Header.Get("Authorization") != "Bearer "+c.controller.opts.Credential || strings.Contains(r.URL.String(), c.controller.opts.Credential) ||
				r.Header.Get("Origin") != "" || !strings.Contains(r.Header.Get("Sec-Websocket-Protocol"), wire.Subprotocol) {
				c.Errorf("the handshake is %s %v", r.URL, r.Header)
			}
			if h := s.Hello; h.Worker != "tested" || h.Slots != 1 || len(h.Running) != 0 || h.Draining {
				c.Errorf("hello is %+v", h)
			}
		},
	},
	{
		name:     "Heartbeats",
		contract: "Heartbeats are counted from 1 and say how many slots are free; an accepted attempt is among their leases and takes a slot.",
		check: func(c *workerCase) {
			s := c.session()
			for seq := int64(1); seq <= 3; seq++ {
				if m := c.beats(s, 1); m.Seq != seq || m.FreeSlots != 1 || len(m.Leases) != 0 {
					c.Errorf("heartbeat %d is %+v", seq, m)
				}
			}
			ref := s.Run(c.Wait, nil)
			s.Logged(ref, 1)
			Await(s.Peer, func(m *wire.Heartbeat) bool { return m.FreeSlots == 0 && slices.Equal(m.Leases, []wire.Ref{ref}) })
		},
	},
	{
		name:     "Instance",
		contract: "Over a new connection the same process of a worker says the same instance.",
		check: func(c *workerCase) {
			s := c.session()
			s.Close(wire.CloseGoingAway)
			if again := c.controller.Welcomed(); again.Hello.Instance != s.Hello.Instance {
				c.Errorf("the instance %v comes back as %v", s.Hello.Instance, again.Hello.Instance)
			}
		},
	},
	{
		name:     "Unknown",
		contract: "A message of an unknown type is ignored, and so are unknown fields; with \"must\" it is answered by the error unsupported.",
		check: func(c *workerCase) {
			s := c.session()
			s.SendText(`{"t":"news","d":{"x":1}}`)
			s.SendText(`{"t":"pause","d":{"reason":"x","until":"tomorrow"},"more":true}`)
			s.SendText(`{"t":"news","must":true}`)
			if m := Await[*wire.Error](s.Peer, nil); m.Code != wire.CodeUnsupported {
				c.Errorf("the answer is %+v", m)
			}
			ref := s.Run(c.Print("x"), nil)
			c.wantSuccess(s, ref, []byte("x"))
			if n := count[*wire.Error](s.Peer, nil); n != 1 {
				c.Errorf("%d errors", n)
			}
		},
	},
	{
		name:     "WelcomeTwice",
		contract: "A second welcome is ignored, as is a message that goes the wrong way.",
		check: func(c *workerCase) {
			s := c.session()
			s.Welcome()
			s.Send(&wire.Heartbeat{Seq: 1})
			c.beats(s, 2)
			c.wantSuccess(s, s.Run(c.Print("x"), nil), []byte("x"))
		},
	},
	{
		name:     "Malformed",
		contract: "What breaks a rule ends the connection with 1002.",
		check: func(c *workerCase) {
			s := c.session()
			s.SendText(`{"t":"start","d":{"build":"x"}}`)
			if code := s.Closed(); code != wire.CloseProtocol {
				c.Errorf("the connection was closed with %d", code)
			}
		},
	},
	{
		name:     "NoOrderWithoutStart",
		contract: "An offer is not an order: nothing runs before start, and accept is repeated, with the same hash, until it comes.",
		check: func(c *workerCase) {
			s := c.session()
			offer := s.Offer(c.Print("x"), nil)
			first, second, third := s.Accepted(offer.Ref), s.Accepted(offer.Ref), s.Accepted(offer.Ref)
			if first.TokenHash != second.TokenHash || first.TokenHash != third.TokenHash {
				c.Error("accept was repeated with another hash")
			}
			if n := count[*wire.StateReport](s.Peer, nil) + count[*wire.LogFrame](s.Peer, nil) + count[*wire.Finished](s.Peer, nil); n != 0 {
				c.Errorf("%d messages of a build that was not started", n)
			}
			s.Start(offer.Ref)
			c.wantSuccess(s, offer.Ref, []byte("x"))
		},
	},
	{
		name:     "OfferAgain",
		contract: "An offer that comes twice is accepted again, and one attempt comes of it; so it is with start.",
		check: func(c *workerCase) {
			s := c.session()
			offer := s.Offer(c.Print("x"), nil)
			s.Accepted(offer.Ref)
			s.Send(offer)
			s.Accepted(offer.Ref)
			s.Start(offer.Ref)
			s.Start(offer.Ref)
			c.wantSuccess(s, offer.Ref, []byte("x"))
			c.beats(s, 2)
			if n := count[*wire.Decline](s.Peer, nil); n != 0 {
				c.Errorf("the offer was declined %d times", n)
			}
		},
	},
	{
		name:     "StaleAccept",
		contract: "An accept that is answered by stale_lease is forgotten: the slot is free, and nothing runs.",
		check: func(c *workerCase) {
			s := c.session()
			offer := s.Offer(c.Print("x"), nil)
			s.Accepted(offer.Ref)
			s.Send(&wire.Error{Code: wire.CodeStaleLease, Re: wire.TypeAccept, Build: offer.Build, Epoch: offer.Epoch})
			Await(s.Peer, func(m *wire.Heartbeat) bool { return m.FreeSlots == 1 && len(m.Leases) == 0 })
			c.wantSuccess(s, s.Run(c.Print("y"), nil), []byte("y"))
			if log := c.controller.Log(offer.Ref); len(log) != 0 {
				c.Errorf("the stale attempt has logged %q", log)
			}
		},
	},
	{
		name:     "NoSlot",
		contract: "A worker without a free slot declines with no_slot.",
		check: func(c *workerCase) {
			s, _ := c.waiting()
			offer := s.Offer(c.Print("x"), nil)
			if m := Await[*wire.Decline](s.Peer, nil); m.Ref != offer.Ref || m.Reason != wire.DeclineNoSlot {
				c.Errorf("the offer is declined with %+v", m)
			}
		},
	},
	{
		name:     "StartOfNothing",
		contract: "A start of an attempt that the worker does not have is answered by finished with the outcome lost.",
		check: func(c *workerCase) {
			s := c.session()
			ref := wire.Ref{Build: queue.NewID(), Epoch: 3}
			s.Start(ref)
			if m := s.Finished(ref); m.Outcome != wire.OutcomeLost || m.LogLen != 0 {
				c.Errorf("the report is %+v", m)
			}
		},
	},
	{
		name:     "Drain",
		contract: "After drain a worker declines with draining, finishes what it runs, and leaves.",
		check: func(c *workerCase) {
			s, ref := c.waiting()
			s.Send(&wire.Drain{Reason: "maintenance"})
			Await(s.Peer, func(m *wire.Heartbeat) bool { return m.Draining })
			offer := s.Offer(c.Print("x"), nil)
			if m := Await[*wire.Decline](s.Peer, nil); m.Ref != offer.Ref || m.Reason != wire.DeclineDraining {
				c.Errorf("the offer is declined with %+v", m)
			}
			s.Cancel(ref, true)
			if end := s.Finished(ref); end.Outcome != wire.OutcomeCanceled {
				c.Errorf("what ran ended as %s", end.Outcome)
			}
			c.ended()
		},
	},
	{
		name:     "Never",
		contract: "A worker that is refused with 401, or 426 for its version, or closed with 4401 or 4426, does not come back.",
		check: func(c *workerCase) {
			for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusUpgradeRequired} {
				before := len(c.controller.Handshakes())
				c.controller.Refuse(status)
				c.start()
				c.ended()
				if n := len(c.controller.Handshakes()) - before; n != 1 {
					c.Errorf("a worker that was refused with %d has come %d times", status, n)
				}
			}
			c.controller.Refuse(0)
			for _, code := range []wire.CloseCode{wire.CloseUnauthorized, wire.CloseVersion} {
				c.session().Close(code)
				c.ended()
			}
		},
	},
	{
		name:     "Backoff",
		contract: "A worker comes back after a connection that broke, and after 503.",
		check: func(c *workerCase) {
			c.controller.Refuse(http.StatusServiceUnavailable)
			c.start()
			eventually(c.T, "the worker has come twice", func() bool { return len(c.controller.Handshakes()) >= 2 })
			c.controller.Refuse(0)
			c.controller.Welcomed().Drop()
			c.controller.Welcomed().Close(wire.CloseInternal)
			c.controller.Welcomed().Close(wire.CloseReplaced)
			c.controller.Welcomed()
		},
	},
	{
		name:     "NoWelcome",
		contract: "A worker that gets no welcome says nothing but hello, and comes back.",
		check: func(c *workerCase) {
			c.start()
			s := c.controller.Next()
			c.controller.Next()
			if n := count[wire.Message](s.Peer, nil); n != 1 {
				c.Errorf("%d messages without a welcome", n)
			}
		},
	},
	{
		name:     "Unanswered",
		contract: "A worker whose heartbeats are not answered for two thirds of the lease takes another connection, whatever else it is told.",
		options:  ControllerOptions{Lease: 2 * time.Second},
		check: func(c *workerCase) {
			s := c.session()
			s.Manual(wire.TypeHeartbeat)
			s.Send(&wire.Pause{Reason: "whatever"})
			c.controller.Welcomed()
		},
	},
}
