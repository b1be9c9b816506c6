// Package sqlauth keeps keys in PostgreSQL or SQLite.
//
// The embedder brings the database: a pool of pgx, shared with whatever else uses
// it, or a [database/sql.DB] over SQLite. A [Backend] opens nothing, closes
// nothing and starts nothing. [Backend.Migrate] creates and upgrades its two
// tables, auth_key and auth_version; call it before the first use, as often as
// you like.
//
//	b, err := sqlauth.NewPostgres(pool, nil)
//	…
//	if err := b.Migrate(ctx); err != nil { … }
//	keys, err := auth.New(b, &auth.Options{AdminKey: adminKey})
//
// Each operation is one statement on one connection, but for Enrol, which looks for
// the outcome of its one, and each is under a deadline and as durable as the database
// makes it. Enrolment tokens expire by the database's clock. The tables hold hashes,
// never secrets. Their CHECKs repeat the rules of [auth.NewKey], so that a row made by
// hand cannot grant more than the program would.
//
// SQLite needs a driver that registers itself; the tests use modernc.org/sqlite with
//
//	file:keys.db?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)
//
// of which _txlock=immediate matters: two processes that migrate at once wait for
// each other only if transactions begin by taking the write lock.
package sqlauth
