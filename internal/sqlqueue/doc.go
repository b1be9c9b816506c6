// Package sqlqueue is what the SQL backends of package queue share: the shape of their tables, the numbers of stored states,
// and the queries that read rows back. What changes a build's state is not here; each backend
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
//	day        PostgreSQL date; SQLite INTEGER, days since 1970. Days are those of UTC
//	labels     text as [queue.Labels.String] writes it; pools likewise: names joined by commas
//	metadata   text, see [FormatMetadata]
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
//	  class_id        int, the id of a class. While that is not known: null if the build may be queued as soon as it is; 0 if it
//	                  is held by more than that, and must not be queued by a program of version 1
//	  state           state
//	  rank            bigint: see [queue.NewBuild.Rank]; a virtual time once it was admitted in a fair pool; kept when it is requeued
//	  priority        int
//	  admitted        flag: Admit has queued it
//	  limit_key       text: its concurrency key, empty if it has none
//	  idem_key        text, null if it has none or it was forgotten: unique in a project
//	  idem_hash       digest, null likewise
//	  metadata        metadata, null if there is none
//	  retry_of        id, null unless it repeats another build
//	  scheduled_at    time, null unless it was submitted for a time to come; its own rank is of that, whatever becomes of not_before
//	  spec            bytes, null if empty
//	  source_digest   digest, null if there is no source
//	  source_size     bigint, null likewise
//	  epoch           bigint, counts claims; never reset
//	  attempts_used, max_attempts  int
//	  retry_failed    flag
//	  backoff_base, backoff_max  durations
//	  run_timeout     duration
//	  queue_timeout   duration, null if it waits forever
//	  created_at      time
//	  expires_at      time, null if it waits forever: created_at + queue_timeout; begins anew when a lost attempt is requeued,
//	                  goes on when an offer is released
//	  not_before      time, null unless held by time. What is held in a class (above 0) without it waits to be admitted
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
//	  lines           bigint, newlines among them, but for those that a program of version 1 stored
//	  cut             flag: the log has reached its limit and something was dropped
//	  closed          flag: the attempt has ended
//	  archived        flag: its chunks are gone, its bytes in the archive
//	  archiving_until time, null: until when one process has it to itself to put it there
//	  tail            bigint, PostgreSQL only: how version 1 told where the bytes of its newest append begin. Later ones leave it alone
//
//	log_chunk
//	  build_id, epoch, start  primary key; start is the offset of the first byte
//	  data            bytes, never empty
//
//	log_drop          logs of deleted builds that the archive has, or may have
//	  build_id, epoch primary key
//	  project         text
//	  taken_until     time: until when one process has it to itself to remove it from there; long ago if none ever had
//
//	artifact
//	  build_id, epoch, name   primary key
//	  project         text
//	  digest          digest
//	  size            bigint
//	  committed       flag
//	  charged         flag, PostgreSQL only: its size is in the project's artifact_bytes, as that of all is, but for those that a
//	                  program of version 1 has reserved since the tables came to version 2. In SQLite a trigger adds those, too
//	  created_at      time
//
//	class             in order of id; a lower id never becomes visible after a higher one
//	  id              int, primary key
//	  pool, labels    unique together
//	  served_until    time, null: until when live sessions are known to serve it
//
//	pool              made by what is first set
//	  name            text, primary key
//	  paused, fair    flags
//	  virtual_end     bigint: the greatest end of a build that was admitted in it while it was fair
//
//	share             of a project in a fair pool
//	  pool, project   text, primary key
//	  weight          int
//	  virtual_end     bigint: the end of the build that was admitted last
//
//	project           made by what is first set, or by the first artifact
//	  name            text, primary key
//	  paused          flag
//	  artifact_quota  bigint, bytes; 0 is none
//	  artifact_bytes  bigint: the sum of the sizes of its artifacts, but for what is not charged
//
//	build_limit
//	  project, key    text, primary key
//	  max_running     int
//
//	stat              what [queue.DayStats] counts, durations summed
//	  project, day    primary key
//	  submitted, succeeded, failed, canceled, timed_out, expired, lost, attempts  bigint
//	  waited, ran     durations
//
//	stat_delta        PostgreSQL only: rows like those of stat, any number of each, that are yet to be added to it
//
//	session
//	  id              bigint, primary key, ascending
//	  controller_id   id of a row in controller, which OpenSessions makes if need be, as alive until now
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
