// Package testenv gives tests the databases they run against.
//
// [Postgres] answers with a schema of its own on a real PostgreSQL: the server
// named by SLIPWAY_TEST_DATABASE_URL, or else one throw-away cluster that the
// test binary starts from the binaries installed on this machine. [StartPostgres]
// gives a cluster that belongs to the caller alone, to be killed and restarted
// in fault tests. [SQLite] names a fresh database file.
//
// A missing server is a failed test, never a skipped one.
//
// # Clusters
//
// A cluster listens on a Unix socket only and trusts every local user, so a test
// reaches it from any process on this host and nothing reaches it from outside.
// PostgreSQL refuses to run as root; when the test does, the server runs as the
// user postgres, or nobody where there is no such user.
//
// A cluster dies with the process that started it, however that process ends. A
// janitor process, which waits for the end of a pipe that only the starting
// process holds open, stops the server and removes its files; on Linux the kernel
// stops the server as well.
//
// The package serves tests on Unix systems and is never part of a program.
package testenv
