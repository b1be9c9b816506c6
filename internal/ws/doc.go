// Package ws is a WebSocket connection cut to what a worker and a controller need: control messages in text frames, log bytes
// in binary frames, and an end that both sides can explain. It is the one package that imports gorilla/websocket.
//
// Either side gets a [Conn], from [Accept] or [Dial], and runs it:
//
//	conn, err := ws.Accept(w, r, &ws.Options{Subprotocols: []string{wire.Subprotocol}})
//	if err != nil {
//		…
//	}
//	err = conn.Run(ctx, func(ctx context.Context, kind ws.Kind, data []byte) error {
//		return conn.SendControl(ctx, answer(data))
//	})
//
// # What it guarantees
//
//   - One goroutine writes. Control messages leave in the order they were sent, and before any log bytes that wait.
//     (Only the 1002 for a peer that breaks RFC 6455 comes from gorilla/websocket itself.)
//   - Nothing waits without bound. A write that makes no progress, a peer that says nothing, a lane that stays full each end the
//     connection after a time from [Options].
//   - Memory is bounded: a message by [Options.MaxMessage], the lanes by their lengths; one that waits has no buffer but for reading; of any number of pings only the newest is answered.
//   - Whatever ends the connection, [Conn.Run] returns when nothing that it started is left, and says why: a [*CloseError] if the peer
//     closed, a sentinel of this package, or the network's error.
//   - Constructors start nothing. A panic of the handler leaves through Run, on its caller's goroutine, after the same cleaning up.
//
// # What it does not
//
// A message that was sent may be lost without notice when the connection ends: what matters needs an answer of its own. The package
// sends no pings; two peers that have nothing to say must say so, or they time out. It does not compress.
package ws
