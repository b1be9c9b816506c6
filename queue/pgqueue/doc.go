// Package pgqueue keeps a build queue in PostgreSQL, for any number of processes on one database.
//
//	pool, err := pgxpool.New(ctx, url)
//	…
//	backend, err := pgqueue.New(pool, nil)
//	…
//	if err := backend.Migrate(ctx); err != nil {
//		…
//	}
//	q := queue.New(backend, nil)
//
// # What it guarantees
//
// It does what [queue.Backend] says. A change is one statement or one short transaction, and is made wholly or not at all; Maintain makes
// several changes, each of its own. When a method returns nil the change is as durable as the server's settings make a commit, but for
// two that a crash of the server may undo, as if they had not been: an offer that is not accepted yet, and an admission. A build is claimed
// by one session only, whatever number of processes claim at once, and whoever waits for a lock is given up after [Options].Timeout.
// Leases, deadlines and ranks go by the database's clock, not by those of the processes.
//
// It does not read or write anything outside of its schema, change settings beyond its own transactions, or start goroutines.
//
// Statements are written for the isolation level READ COMMITTED, PostgreSQL's default. Where default_transaction_isolation is another,
// whatever must go by the newest state fails (SQLSTATE 25001). It is tested with PostgreSQL 15.
//
// # The pool
//
// The pool is the embedder's. The backend borrows one connection for one statement, or for one short transaction, and never asks for a
// second one while it holds one; a pool of a single connection suffices, though callers then wait for each other. Get, List and
// the other reads are made by bun on connections of the same pool, so that there is one budget: as a rule of thumb four connections for
// a process that claims, and a few more for whatever else the service does with the pool.
//
// While [queue.Queue.Run] runs there is one connection more. [Backend.Listen] takes it out of the pool for good, since it waits for
// notifications all the time: a process may hold MaxConns + 1. Notifications go to the one channel of the schema, each in a short
// transaction of its own. Where they cannot be had, behind a PgBouncer in transaction mode for example, set [queue.Options].PollOnly.
//
// The frequent statements are prepared, in the default mode of pgx, and fill some seventy entries of each connection's cache; those of bun
// are sent unprepared. Settings that the statements need, a statement_timeout and how they are planned, end with their transactions.
//
// PgBouncer in session mode needs nothing. In transaction mode a prepared statement may meet a connection that has never
// seen it (unless PgBouncer is 1.21 or newer and max_prepared_statements is set): let pgx not prepare,
//
//	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
//
// which costs the planning of each statement. Every other mode of pgx works as well.
//
// # The schema
//
// All tables are in one schema, by default "slipway"; names in statements are qualified, and the search_path is left alone. Several queues
// can share a database, each in its schema. The tables' form is private to this package, but may be read for reports;
// the comments in [Migrations] explain it.
//
// [Backend.Migrate] is called by whoever deploys, never by anything else. It needs a user that owns the schema, or may create it. The user
// that the service runs as needs less:
//
//	GRANT USAGE ON SCHEMA slipway TO service;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA slipway TO service;
//
// After a migration, programs of the version before go on working, unless the migration says otherwise in its first line, as version 2 does
// of a schema that is made anew; then they get [ErrTooNew] from Ping and should not be run. What they do not know of, they do not keep
// to: see [Backend.Migrate]. A program that finds an older schema than it needs gets [ErrOutdated]. So: migrate, then deploy.
//
// # Admission
//
// Builds that have a concurrency key, or are in a fair pool, or of a paused project are inserted as held. [Backend.Admit] queues them, which
// [queue.Queue.Run] calls about once a second, and as soon as it hears of room. A call looks at 512 lanes and moves 512 builds at most, which
// it finds by an index, however many wait.
//
// What is decided by counting is decided by one process at a time: Admit, ChangePool, ChangeProject and SetLimit begin with an advisory lock
// of the schema, and count after it. So limits are exact, whatever the number of processes: of a key no more builds are queued and leased
// at any time than its limit allows, but for those that were before it was set. Nothing else takes that lock: no submit, claim, accept or
// finish ever waits for it.
//
// A pause holds for every claim that begins after it was set, since claims look for themselves; Admit then moves what is queued of a paused
// project out of their way. In a pool that becomes fair, builds may be claimed out of turn until Maintain has held those that ChangePool did
// not get hold of. Builds with a key and those of fair pools wait until a live session serves their class, see [Backend.Serve].
//
// # In a transaction of one's own
//
// [Submit] adds builds in a transaction of the caller's own, so that a build is there exactly if the change that it belongs to is. It
// takes what database/sql and bun call a transaction; [SubmitPgx] takes one of pgx, and [SubmitCopyPgx] sends many builds by COPY. [Finish]
// and [FinishPgx] end attempts in that way, in transactions of the level READ COMMITTED. After the commit, call [queue.Queue.Wake].
//
// The statements run with the settings of the transaction: if it has a statement_timeout, that is what bounds a wait for a lock on the
// server.
//
// # Testing
//
// The package passes the suite of package queuetest on a real server. Tests of services need no PostgreSQL: package memqueue behaves alike,
// except for what takes a transaction.
package pgqueue
