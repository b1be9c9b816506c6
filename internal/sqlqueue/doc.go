// Package sqlqueue is what the SQL backends of package queue share: the shape of their tables, the numbers of stored states,
// the queries that read rows back, and the runner of migrations. What changes a build's state is not here; each backend
// says that in its own dialect.
//
// # Names
//
// In PostgreSQL the tables stand in a schema of their own, by default "slipway". SQLite has no schemas, so the same names carry the
// prefix slipway_ there. SQL text writes {schema}build for the table build and {running} for the number of a state; [Names] puts in
// what the database needs.
//
// # Types
//
//	id         PostgreSQL uuid; SQLite BLOB of 16 bytes. Both compare as bytes, so a larger id is a newer build
//	time       PostgreSQL timestamptz; SQLite INTEGER, microseconds since 1970 in UTC
//	duration   bigint, microseconds
//	digest     bytea / BLOB of 32 bytes
//	labels     text as [queue.Labels.String] writes it; pools likewise: names joined by commas
//	state      smallint, see [State]
//	flag       boolean / INTEGER 0 or 1
//
// # Tables
//
// One table, build, holds every build in every state; partial indexes make each kind of search as cheap as the few rows it finds.
// A column may be null only where this list says so.
//
//	build
//	  id              id, primary key
//	  project, pool   text
//	  labels          labels required of a worker
//	  class_id        int, null until interned: the id of a class
//	  state           state
//	  rank            bigint: the store's clock in microseconds at submit; kept when the build is requeued
//	  spec            bytes, null if empty
//	  source_digest   digest, null if there is no source
//	  source_size     bigint, null likewise
//	  epoch           bigint, counts claims; never reset
//	  attempts_used, max_attempts  int
//	  run_timeout     duration
//	  queue_timeout   duration, null if it waits forever
//	  created_at      time
//	  expires_at      time, null if it waits forever: created_at + queue_timeout; begins anew when a lost attempt is requeued,
//	                  goes on when an offer is released
//	  not_before      time, null unless held by time
//	  avoid_worker    text, null; avoid_until time, null: both or neither
//	  session_id      bigint, set in states 2 to 4 and null elsewhere; references nothing, a session outlives its leases
//	  worker          text: who holds the build or held it last; empty before the first claim
//	  deadline        time, set in states 2 to 4 and null elsewhere: the end of the offer; of the run timeout plus slack;
//	                  of the wait for a cancel's report
//	  token_hash      digest, null outside states 3 and 4 and for direct sessions
//	  started_at      time of the newest accepted attempt, null before
//	  finished_at     time, set in states 5 and above and null elsewhere
//	  reason, signal  text, may be empty
//	  exit_code       int, null
//
//	attempt           one row for each accepted attempt that has ended, written in the change that ended it
//	  build_id        id; epoch bigint: primary key (build_id, epoch)
//	  worker          text
//	  started_at, ended_at  time
//	  outcome         state, 5 and above
//	  result          state, null unless Finish ended the attempt: the state that Finish led to and returns again when it
//	                  is repeated; 0 or 1 is pending
//	  reason, signal  text
//	  exit_code       int, null
//	  log_sha256      digest, null unless the worker reported it
//	  log_complete    flag
//
//	log_head          made by the first append, in PostgreSQL by the end of an attempt that never wrote, too; its length is
//	                  the truth about what is stored
//	  build_id, epoch primary key
//	  length          bigint, bytes
//	  closed          flag: the attempt has ended
//	  tail            bigint, PostgreSQL only: where the bytes of the newest append begin, -1 if it stored none
//
//	log_chunk
//	  build_id, epoch, start  primary key; start is the offset of the first byte
//	  data            bytes, never empty
//
//	artifact
//	  build_id, epoch, name   primary key
//	  project         text
//	  digest          digest
//	  size            bigint
//	  committed       flag
//	  created_at      time
//
//	class             in order of id; a lower id never becomes visible after a higher one
//	  id              int, primary key
//	  pool, labels    unique together
//
//	session
//	  id              bigint, primary key, ascending
//	  controller_id   id of a row in controller, which OpenSession makes if need be, as alive until now
//	  worker, instance text
//	  labels, pools   text
//	  slots           int
//	  direct          flag
//	  opened_at       time
//	  ended_at        time, null while it lives; the grace of its leases counts from here. At most one live session a worker
//	  replaced        flag: a newer session of the worker ended it
//
//	controller
//	  id              id, primary key
//	  alive_until     time
//	  fresh_since     time: the first beat after the last gap
//
//	schema_version    one row
//	  id              int, always 1, primary key
//	  version         int: of the newest migration that was run
//	  min_compatible  int: the lowest version of code that can work with this schema
//
// A session has lost its connection exactly when ended_at is set, whether it was lost or replaced.
package sqlqueue
