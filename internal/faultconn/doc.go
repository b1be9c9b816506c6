// Package faultconn breaks connections to a real PostgreSQL server at chosen moments.
//
// A [Dialer] makes the connections of a pool, by its ConnConfig.DialFunc, and strikes one of them where a [Fault] says: after so many
// bytes, before the server has been told to carry a request out, or when it has and the answer is on its way. What the server
// does is always real; only what passes between it and the client is not.
//
// The loop that this is made for tries every moment of a call in turn:
//
//	for n := 0; ; n++ {
//		dialer.Break(faultconn.Fault{At: faultconn.Answered, N: n})
//		err := call()
//		if !dialer.Mend() {
//			break // the call has fewer moments than that
//		}
//		// err must be one that leaves the outcome open, and what the server keeps must make sense.
//	}
//
// # Requests
//
// A request is what the server answers at once: everything up to a Sync, a Query or a CopyDone message. A statement in the
// extended protocol, a batch, a BEGIN and a COMMIT of a transaction, and the preparation of a statement are a request each. What opens
// a connection is none, and neither are cancel requests.
//
// To see requests the package reads the protocol, which must not be encrypted (sslmode=disable).
//
// The package serves tests and is never part of a program.
package faultconn
