// Command embed is a service of its own with Slipway inside: it keeps releases in a table of its database, and each release has a build.
//
// What it shows:
//
//   - A release and its build are stored in one transaction, by [releases.add]: there is never one without the other.
//   - The hub is one handler in the service's own mux, behind the service's own idea of who a worker is.
//   - The service reads builds and logs like any other of its data.
//
// It listens on the address given by -listen and keeps everything in the directory given by -data. EMBED_KEY guards its own routes,
// and EMBED_WORKER_KEY is what its one worker, "builder", presents:
//
//	EMBED_KEY=… EMBED_WORKER_KEY=… embed -listen 127.0.0.1:8081 -data ./embed-data
//	SLIPWAY_WORKER_KEY=… agent -url http://127.0.0.1:8081 -name builder
//	curl -H "Authorization: Bearer $EMBED_KEY" -d '{"tag": "v1.2.0"}' http://127.0.0.1:8081/releases
//
// Exit codes: 0 after a signal, 1 failed, 2 wrong usage.
package main
