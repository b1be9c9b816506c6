// Command pgtemp runs a command against a throw-away PostgreSQL cluster.
//
//	pgtemp [-fsync] -- command [argument ...]
//
// The command finds the server's URL in SLIPWAY_TEST_DATABASE_URL. pgtemp passes
// on the signals it receives, ends with the command's exit code (128 + n after
// signal n) and stops the cluster. Its own failures exit 125, a usage error 2.
//
// The command runs in a process group of its own, so it cannot read from the
// terminal pgtemp was started on.
package main
