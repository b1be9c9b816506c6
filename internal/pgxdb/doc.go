// Package pgxdb puts bun on the connections of a pgx pool.
//
// The SQL backends of Slipway speak to PostgreSQL both ways: natively, for COPY,
// LISTEN and arrays, and through bun. Both share the one pool that the embedder
// passes, and with it one budget of connections.
//
// bun writes its arguments into the text of a query, so nearly every query it
// sends is a new one. pgx prepares and caches each new text by default, which
// costs a round trip and fills the cache with statements that never come again.
// A database opened here sends queries unprepared.
//
// A goroutine that holds a connection, be it by a transaction, open rows or
// Acquire, must not ask for another: with a pool of one it would wait for itself.
package pgxdb
