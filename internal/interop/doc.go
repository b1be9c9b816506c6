// Command interop hands builds to a worker that shares no code with Slipway.
//
//	interop node node/worker.mjs
//
// It serves a hub on a loopback port and runs the given command, which finds the controller's URL in SLIPWAY_URL, its credential in
// SLIPWAY_CREDENTIAL and its name in SLIPWAY_WORKER. One build is to succeed, with all of its log, more than a window of it, and
// an artifact; another one is to be canceled while it runs. Then the worker is killed. The exit code is 0 if the queue has seen all of that.
//
// # What the builds are
//
// A spec is JSON, {"lines":40000}: the worker fetches the source, logs that many lines "line 0", "line 1", …, then the source's SHA-256 in
// hexadecimal on a line of its own, and uploads that last line as the artifact out/sum.txt. With {"wait":true} it runs until it is
// canceled instead.
//
// Package peer is such a worker, on coder/websocket, and node/worker.mjs another, on the ws of npm. Both were written from
// docs/protocol.md alone. The tests also hold the former to the protocol with workertest.TestWorker.
package main
