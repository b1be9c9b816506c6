-- min_compatible: 1

-- Times are microseconds since 1970 in UTC, durations microseconds.

CREATE TABLE {schema}class (
	id     INTEGER NOT NULL PRIMARY KEY,
	pool   TEXT NOT NULL CHECK (pool <> ''),
	labels TEXT NOT NULL,
	UNIQUE (pool, labels)
) STRICT;

CREATE TABLE {schema}controller (
	id          BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
	alive_until INTEGER NOT NULL,
	fresh_since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT, because the id of a session that was deleted must never name another.
CREATE TABLE {schema}session (
	id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	controller_id BLOB NOT NULL REFERENCES {schema}controller (id),
	worker        TEXT NOT NULL CHECK (worker <> ''),
	instance      TEXT NOT NULL CHECK (instance <> ''),
	labels        TEXT NOT NULL,
	pools         TEXT NOT NULL,
	slots         INTEGER NOT NULL CHECK (slots >= 1),
	direct        INTEGER NOT NULL CHECK (direct IN (0, 1)),
	opened_at     INTEGER NOT NULL,
	ended_at      INTEGER,
	replaced      INTEGER NOT NULL DEFAULT 0 CHECK (replaced IN (0, 1)),
	CHECK (replaced = 0 OR ended_at IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX {schema}session_live ON {schema}session (worker) WHERE ended_at IS NULL;
CREATE INDEX {schema}session_worker ON {schema}session (worker);
CREATE INDEX {schema}session_controller ON {schema}session (controller_id);
CREATE INDEX {schema}session_ended ON {schema}session (ended_at) WHERE ended_at IS NOT NULL;

-- The spec comes last, so that reading any other column does not walk the pages it overflows to.
CREATE TABLE {schema}build (
	id            BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
	project       TEXT NOT NULL CHECK (project <> ''),
	pool          TEXT NOT NULL CHECK (pool <> ''),
	labels        TEXT NOT NULL,
	class_id      INTEGER,
	state         INTEGER NOT NULL CHECK (state BETWEEN {held} AND {lost}),
	rank          INTEGER NOT NULL,
	source_digest BLOB CHECK (length(source_digest) = 32),
	source_size   INTEGER CHECK (source_size >= 0),
	epoch         INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0),
	attempts_used INTEGER NOT NULL DEFAULT 0 CHECK (attempts_used >= 0),
	max_attempts  INTEGER NOT NULL,
	run_timeout   INTEGER NOT NULL CHECK (run_timeout >= 0),
	queue_timeout INTEGER CHECK (queue_timeout > 0),
	created_at    INTEGER NOT NULL,
	expires_at    INTEGER,
	not_before    INTEGER,
	avoid_worker  TEXT,
	avoid_until   INTEGER,
	session_id    INTEGER,
	worker        TEXT NOT NULL DEFAULT '',
	deadline      INTEGER,
	token_hash    BLOB CHECK (length(token_hash) = 32),
	started_at    INTEGER,
	finished_at   INTEGER,
	reason        TEXT NOT NULL DEFAULT '',
	exit_code     INTEGER,
	signal        TEXT NOT NULL DEFAULT '',
	spec          BLOB,
	CHECK (attempts_used <= max_attempts AND attempts_used <= epoch),
	CHECK (state <> {queued} OR class_id IS NOT NULL),
	CHECK (state = {held} OR not_before IS NULL),
	CHECK ((state BETWEEN {offered} AND {cancelling}) = (session_id IS NOT NULL)),
	CHECK ((state BETWEEN {offered} AND {cancelling}) = (deadline IS NOT NULL)),
	CHECK (state NOT BETWEEN {offered} AND {cancelling} OR (epoch > 0 AND worker <> '')),
	CHECK (state IN ({running}, {cancelling}) OR token_hash IS NULL),
	CHECK (state NOT IN ({running}, {cancelling}) OR started_at IS NOT NULL),
	CHECK ((state >= {succeeded}) = (finished_at IS NOT NULL)),
	CHECK ((source_digest IS NULL) = (source_size IS NULL)),
	CHECK ((queue_timeout IS NULL) = (expires_at IS NULL)),
	CHECK ((avoid_worker IS NULL) = (avoid_until IS NULL))
) STRICT;

CREATE INDEX {schema}build_project ON {schema}build (project, id);
CREATE INDEX {schema}build_open ON {schema}build (project, id) WHERE finished_at IS NULL;
CREATE INDEX {schema}build_new ON {schema}build (rank, id) WHERE state = {held} AND class_id IS NULL;
CREATE INDEX {schema}build_due ON {schema}build (not_before) WHERE state = {held} AND not_before IS NOT NULL;
CREATE INDEX {schema}build_queued ON {schema}build (class_id, rank, id) WHERE state = {queued};
CREATE INDEX {schema}build_expires ON {schema}build (expires_at) WHERE state <= {queued} AND expires_at IS NOT NULL;
CREATE INDEX {schema}build_leased ON {schema}build (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX {schema}build_cancelling ON {schema}build (session_id) WHERE state = {cancelling};
CREATE INDEX {schema}build_deadline ON {schema}build (state, deadline) WHERE deadline IS NOT NULL;

CREATE TABLE {schema}attempt (
	build_id     BLOB NOT NULL REFERENCES {schema}build (id) ON DELETE CASCADE,
	epoch        INTEGER NOT NULL CHECK (epoch >= 1),
	worker       TEXT NOT NULL CHECK (worker <> ''),
	started_at   INTEGER NOT NULL,
	ended_at     INTEGER NOT NULL,
	outcome      INTEGER NOT NULL CHECK (outcome BETWEEN {succeeded} AND {lost}),
	result       INTEGER CHECK (result IN ({held}, {queued}) OR result BETWEEN {succeeded} AND {lost}),
	reason       TEXT NOT NULL,
	exit_code    INTEGER,
	signal       TEXT NOT NULL,
	log_sha256   BLOB CHECK (length(log_sha256) = 32),
	log_complete INTEGER NOT NULL CHECK (log_complete IN (0, 1)),
	PRIMARY KEY (build_id, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE {schema}log_head (
	build_id BLOB NOT NULL REFERENCES {schema}build (id) ON DELETE CASCADE,
	epoch    INTEGER NOT NULL CHECK (epoch >= 1),
	length   INTEGER NOT NULL CHECK (length >= 0),
	closed   INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
	PRIMARY KEY (build_id, epoch)
) STRICT, WITHOUT ROWID;

-- Not WITHOUT ROWID: a chunk is much larger than its key.
CREATE TABLE {schema}log_chunk (
	build_id BLOB NOT NULL,
	epoch    INTEGER NOT NULL,
	start    INTEGER NOT NULL CHECK (start >= 0),
	data     BLOB NOT NULL CHECK (length(data) > 0),
	PRIMARY KEY (build_id, epoch, start),
	FOREIGN KEY (build_id, epoch) REFERENCES {schema}log_head (build_id, epoch) ON DELETE CASCADE
) STRICT;

CREATE TABLE {schema}artifact (
	build_id   BLOB NOT NULL REFERENCES {schema}build (id) ON DELETE CASCADE,
	epoch      INTEGER NOT NULL CHECK (epoch >= 1),
	name       TEXT NOT NULL CHECK (name <> ''),
	project    TEXT NOT NULL CHECK (project <> ''),
	digest     BLOB NOT NULL CHECK (length(digest) = 32),
	size       INTEGER NOT NULL CHECK (size >= 0),
	committed  INTEGER NOT NULL DEFAULT 0 CHECK (committed IN (0, 1)),
	created_at INTEGER NOT NULL,
	PRIMARY KEY (build_id, epoch, name)
) STRICT, WITHOUT ROWID;
