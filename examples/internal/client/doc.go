// Package client talks to a controller's HTTP API.
//
//	c, err := client.New("http://127.0.0.1:8080", key, nil)
//	if err != nil {
//		return err
//	}
//	build, err := c.Submit(ctx, api.NewBuild{Spec: spec})
//	if err != nil {
//		return err
//	}
//	for piece, err := range c.Log(ctx, build.ID, client.LogOptions{Follow: true}) {
//		if err != nil {
//			return err
//		}
//		os.Stdout.Write(piece.Data)
//	}
//
// # What it guarantees
//
// Requests that were not answered are tried again when repeating them does no harm, which is all of them but the creation of a key: a
// build has its id before it is sent, so that a second submit finds the first one.
//
// Bytes are checked. What [Client.Log] and [Client.Fetch] deliver has the length and the SHA-256 that the worker reported, or they
// end with [ErrDamaged].
//
// Errors survive the wire: a refusal is, for [errors.Is], the sentinel that the controller met, such as [queue.ErrNotFound]. That nobody
// answered is [ErrUnreachable].
package client
