// Controller keeps builds in a durable queue, gives them to agents over WebSocket, and serves the HTTP API.
//
// Without settings it keeps a queue and keys in SQLite and bytes in files, all below ./slipway-data, and listens on 127.0.0.1:8080.
// All it has to be told is an admin key, in SLIPWAY_ADMIN_KEY; `controller -help` lists the rest. With -database it works on
// PostgreSQL, together with any number of other controllers.
//
// It ends with 0 after a signal, 1 after a failure or a second signal, 2 for wrong usage, and 3 for settings that it refuses to work
// with.
package main
