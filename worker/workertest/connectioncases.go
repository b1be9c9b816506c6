package workertest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// connectionCases are about connections, and what holds for every frame.
var connectionCases = []controllerTest{
	{
		"UnknownVersion",
		"A handshake that names no version the controller speaks is refused with 426, unsupported_version and the versions it does.",
		func(c *controllerCase) {
			answer, body := c.handshake(c.Credential, "slipway.worker.v9")
			var problem struct {
				Code      string   `json:"code"`
				Supported []string `json:"supported"`
			}
			err := json.Unmarshal([]byte(body), &problem)
			if answer.StatusCode != http.StatusUpgradeRequired || err != nil || problem.Code != "unsupported_version" ||
				!slices.Contains(problem.Supported, wire.Subprotocol) {
				c.Errorf("the answer is %s, %q, %v", answer.Status, body, err)
			}
		},
	},
	{
		"HighestVersion",
		"Of the versions that a worker names the controller picks the highest that it speaks, and its answer names it.",
		func(c *controllerCase) {
			target := "ws" + strings.TrimPrefix(strings.TrimSuffix(c.URL, "/"), "http") + "/v1/worker/connect"
			conn, err := ws.Dial(c.Context(), target, http.Header{"Authorization": {"Bearer " + c.Credential}}, nil,
				&ws.Options{Subprotocols: []string{"slipway.worker.v9", wire.Subprotocol, "slipway.worker.v0"}})
			if err != nil {
				c.Fatalf("connect: %v", err)
			}
			defer conn.CloseNow()
			if got := conn.Subprotocol(); got != wire.Subprotocol {
				c.Errorf("the controller picked %q", got)
			}
		},
	},
	{
		"Credential",
		"A handshake without a good credential in its Authorization header is refused with 401.",
		func(c *controllerCase) {
			for _, bearer := range []string{"", "wrong", c.Credential + "x"} {
				if answer, _ := c.handshake(bearer, wire.Subprotocol); answer.StatusCode != http.StatusUnauthorized {
					c.Errorf("the answer to a wrong credential is %s", answer.Status)
				}
			}
		},
	},
	{
		"Welcome",
		"hello is answered by welcome, with a lease longer than the heartbeat and limits within the protocol's.",
		func(c *controllerCase) {
			// That the message decodes is most of it.
			if m := c.dial().Hello(); time.Since(m.ServerTime).Abs() > time.Hour || len(m.Decisions) != 0 {
				c.Errorf("welcome is %+v", m)
			}
		},
	},
	{
		"AnotherName",
		"A hello with another name than the credential's is answered by closing with 4401.",
		func(c *controllerCase) {
			w := c.dial()
			m := w.hello()
			m.Worker = "x" + m.Worker[1:] + "x"
			w.Send(m)
			c.wantClosed(w, wire.CloseUnauthorized)
		},
	},
	{
		"HelloFirst",
		"Anything but hello first, save a message of an unknown type, ends the connection with 1002.",
		func(c *controllerCase) {
			w := c.dial()
			w.SendText(`{"t":"news","d":{"x":1}}`)
			w.Send(&wire.Heartbeat{Seq: 1})
			c.wantClosed(w, wire.CloseProtocol)
		},
	},
	{
		"HelloTwice",
		"A second hello is ignored, as is a message that goes the wrong way.",
		func(c *controllerCase) {
			w := c.worker()
			w.Send(w.hello())
			w.Send(&wire.FinishedOK{Ref: wire.Ref{Build: queue.NewID(), Epoch: 1}})
			w.Beat()
			if n := count[*wire.Welcome](w.Peer, nil); n != 1 {
				c.Errorf("%d messages of welcome", n)
			}
		},
	},
	{
		"Malformed",
		"What breaks a rule ends the connection with 1002.",
		func(c *controllerCase) {
			for _, frame := range []string{
				"{", "[]", `{"t":"heartbeat","d":{"seq":0}}`, `{"t":"heartbeat","d":{"seq":1,"seq":2}}`, `{"t":"heartbeat","d":7}`, "\"\xff\"",
				`{"t":"accept","d":{"build":"0198c2f0-7d4e-4cc3-98c4-dc0c0c07398f","epoch":1}}`,
			} {
				w := c.worker()
				w.SendText(frame)
				if code := w.Closed(); code != wire.CloseProtocol && code != 1007 { // which RFC 6455 has for what is not UTF-8
					c.Errorf("after %q the connection was closed with %d", frame, code)
				}
			}
		},
	},
	{
		"TooBig",
		"What is above a limit ends the connection with 1009.",
		func(c *controllerCase) {
			for _, frame := range []string{
				`{"t":"news","d":"` + strings.Repeat("x", wire.MaxMessage) + `"}`,
				`{"t":"news","d":[` + strings.Repeat("0,", wire.MaxList) + `0]}`,
				`{"t":"news","d":` + strings.Repeat("[", wire.MaxDepth) + strings.Repeat("]", wire.MaxDepth) + `}`,
			} {
				w := c.worker()
				w.SendText(frame)
				c.wantClosed(w, wire.CloseTooBig)
			}
		},
	},
	{
		"Unknown",
		"A message of an unknown type is ignored, and so are unknown fields; with \"must\" it is answered by the error unsupported.",
		func(c *controllerCase) {
			w := c.worker()
			w.SendText(`{"t":"news","d":{"x":1}}`)
			w.SendText(`{"t":"pause","d":{"reason":"x","until":"tomorrow"},"more":true}`)
			w.SendText(`{"t":"resume"}`)
			w.Beat()
			if n := count[*wire.Error](w.Peer, nil); n != 0 {
				c.Errorf("%d errors for what is to be ignored", n)
			}
			w.SendText(`{"t":"news","must":true}`)
			c.wantError(w, wire.CodeUnsupported, wire.Ref{}, "")
			w.Beat()
		},
	},
	{
		"UnknownLogFrame",
		"A binary frame of another kind, or with a flag, is answered by the error unsupported.",
		func(c *controllerCase) {
			w, a := c.running()
			frame, err := wire.EncodeLog(nil, wire.LogFrame{Ref: a.Ref, Data: []byte("x")})
			if err != nil {
				c.Fatal(err)
			}
			for i := range 2 {
				other := slices.Clone(frame)
				other[i] = 9
				w.SendBinary(other)
				c.wantError(w, wire.CodeUnsupported, wire.Ref{}, "")
			}
			w.Beat(a.Ref)
		},
	},
	{
		"Heartbeat",
		"A heartbeat is answered with its number; the attempts it names are renewed, or lost if they are not the worker's.",
		func(c *controllerCase) {
			w, a := c.running()
			stranger := wire.Ref{Build: queue.NewID(), Epoch: 1}
			ok := w.Beat(a.Ref, stranger)
			if !slices.Equal(ok.Kept, []wire.Ref{a.Ref}) || !slices.Equal(ok.Lost, []wire.Ref{stranger}) || len(ok.Cancel) != 0 {
				c.Errorf("the answer is %+v", ok)
			}
		},
	},
	{
		"Replaced",
		"Of several connections with one name the newest counts; the older one is closed with 4409.",
		func(c *controllerCase) {
			old := c.worker()
			fresh := c.worker()
			c.wantClosed(old, wire.CloseReplaced)
			fresh.Beat()
			c.Submit(c.T, []byte("spec"), nil)
			fresh.Take()
		},
	},
	{
		"NoOffers",
		"A worker that has said drain or pause is offered nothing; after resume it is.",
		func(c *controllerCase) {
			w := c.worker()
			w.Send(&wire.Pause{Reason: "on battery"})
			w.Beat()
			id := c.Submit(c.T, []byte("spec"), nil)
			<-time.After(500 * time.Millisecond) // in which it would have been offered
			if n := count[*wire.Offer](w.Peer, nil); n != 0 || c.State(c.T, id) != queue.Pending {
				c.Errorf("%d offers while the worker pauses; the build is %v", n, c.State(c.T, id))
			}
			w.Send(&wire.Resume{Reason: "on mains"})
			w.Take()
		},
	},
}
