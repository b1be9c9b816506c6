-- min_compatible: 1
--
-- States: 0 held, 1 queued, 2 offered, 3 running, 4 cancelling, 5 succeeded, 6 failed, 7 canceled, 8 timed out, 9 expired, 10 lost.
-- Durations are microseconds. Rows change several times in their lives, hence the room in pages and the eager vacuum.

CREATE TABLE {schema}class (
	id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	pool text NOT NULL,
	labels text NOT NULL,
	UNIQUE (pool, labels)
);

CREATE TABLE {schema}controller (
	id uuid PRIMARY KEY,
	alive_until timestamptz NOT NULL,
	fresh_since timestamptz NOT NULL,
	CHECK (fresh_since <= alive_until)
) WITH (fillfactor = 50);

CREATE TABLE {schema}session (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	controller_id uuid NOT NULL REFERENCES {schema}controller,
	worker text NOT NULL CHECK (worker <> ''),
	instance text NOT NULL,
	labels text NOT NULL,
	pools text NOT NULL,
	slots integer NOT NULL CHECK (slots >= 1),
	direct boolean NOT NULL,
	opened_at timestamptz NOT NULL,
	ended_at timestamptz,
	replaced boolean NOT NULL DEFAULT false,
	CHECK (ended_at IS NOT NULL OR NOT replaced)
);

CREATE UNIQUE INDEX session_live ON {schema}session (worker) WHERE ended_at IS NULL;
CREATE INDEX session_worker ON {schema}session (worker);
CREATE INDEX session_controller ON {schema}session (controller_id);
CREATE INDEX session_ended ON {schema}session (ended_at) WHERE ended_at IS NOT NULL;

-- class_id and session_id have no foreign keys: each claim would lock rows that all others share. Classes are never deleted, and
-- sessions not before their leases are gone.
CREATE TABLE {schema}build (
	id uuid PRIMARY KEY,
	rank bigint NOT NULL,
	epoch bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
	session_id bigint,
	run_timeout bigint NOT NULL CHECK (run_timeout >= 0),
	queue_timeout bigint CHECK (queue_timeout > 0),
	source_size bigint CHECK (source_size >= 0),
	exit_code bigint,
	created_at timestamptz NOT NULL,
	expires_at timestamptz,
	not_before timestamptz,
	avoid_until timestamptz,
	deadline timestamptz,
	started_at timestamptz,
	finished_at timestamptz,
	class_id integer CHECK (class_id > 0),
	attempts_used integer NOT NULL DEFAULT 0,
	max_attempts integer NOT NULL,
	state smallint NOT NULL,
	project text NOT NULL CHECK (project <> ''),
	pool text NOT NULL CHECK (pool <> ''),
	labels text NOT NULL,
	worker text NOT NULL DEFAULT '',
	avoid_worker text,
	reason text NOT NULL DEFAULT '',
	signal text NOT NULL DEFAULT '',
	source_digest bytea CHECK (octet_length(source_digest) = 32),
	token_hash bytea CHECK (octet_length(token_hash) = 32),
	spec bytea,
	CONSTRAINT build_state CHECK (state BETWEEN 0 AND 10),
	CONSTRAINT build_lease CHECK ((state BETWEEN 2 AND 4) = (session_id IS NOT NULL) AND (state BETWEEN 2 AND 4) = (deadline IS NOT NULL)),
	CONSTRAINT build_finished CHECK ((state >= 5) = (finished_at IS NOT NULL)),
	CONSTRAINT build_claimable CHECK (class_id IS NOT NULL OR state NOT BETWEEN 1 AND 4),
	CONSTRAINT build_held CHECK (not_before IS NULL OR state = 0),
	CONSTRAINT build_token CHECK (token_hash IS NULL OR state BETWEEN 3 AND 4),
	CONSTRAINT build_attempts CHECK (attempts_used BETWEEN 0 AND max_attempts AND attempts_used <= epoch),
	CONSTRAINT build_started CHECK ((attempts_used > 0) = (started_at IS NOT NULL)),
	CONSTRAINT build_worker CHECK ((epoch > 0) = (worker <> '')),
	CONSTRAINT build_avoid CHECK ((avoid_worker IS NULL) = (avoid_until IS NULL)),
	CONSTRAINT build_source CHECK ((source_digest IS NULL) = (source_size IS NULL)),
	CONSTRAINT build_expiry CHECK ((queue_timeout IS NULL) = (expires_at IS NULL))
) WITH (
	fillfactor = 80,
	autovacuum_vacuum_scale_factor = 0.01,
	autovacuum_vacuum_threshold = 1000,
	autovacuum_vacuum_cost_delay = 0
);

-- What is queued, in the order in which it is claimed.
CREATE INDEX build_queued ON {schema}build (class_id, rank, id) WHERE state = 1;
-- What waits for its class, or for its time.
CREATE INDEX build_unclassed ON {schema}build (rank, id) WHERE state = 0 AND class_id IS NULL;
CREATE INDEX build_due ON {schema}build (not_before) WHERE state = 0 AND not_before IS NOT NULL;
CREATE INDEX build_expires ON {schema}build (expires_at) WHERE state < 2 AND expires_at IS NOT NULL;
-- Leases. The predicates are about session_id, not state, so that no statement that is fenced by state walks these.
CREATE INDEX build_session ON {schema}build (session_id, state) WHERE session_id IS NOT NULL;
CREATE INDEX build_deadline ON {schema}build (state, deadline) WHERE session_id IS NOT NULL;
CREATE INDEX build_cancelling ON {schema}build (session_id) WHERE state = 4;
-- Lists.
CREATE INDEX build_project ON {schema}build (project, id);
CREATE INDEX build_open ON {schema}build (project, id) WHERE finished_at IS NULL;

CREATE TABLE {schema}attempt (
	build_id uuid NOT NULL REFERENCES {schema}build,
	epoch bigint NOT NULL CHECK (epoch >= 1),
	started_at timestamptz NOT NULL,
	ended_at timestamptz NOT NULL,
	exit_code bigint,
	outcome smallint NOT NULL CHECK (outcome BETWEEN 5 AND 10),
	result smallint CHECK (result IN (0, 1) OR result BETWEEN 5 AND 10),
	log_complete boolean NOT NULL,
	worker text NOT NULL CHECK (worker <> ''),
	reason text NOT NULL,
	signal text NOT NULL,
	log_sha256 bytea CHECK (octet_length(log_sha256) = 32),
	PRIMARY KEY (build_id, epoch)
);

-- tail is where the bytes of the newest append begin, -1 if it stored none: what an upsert has to say to the insert of the chunk.
CREATE TABLE {schema}log_head (
	build_id uuid NOT NULL REFERENCES {schema}build,
	epoch bigint NOT NULL CHECK (epoch >= 1),
	length bigint NOT NULL CHECK (length >= 0),
	tail bigint NOT NULL DEFAULT -1,
	closed boolean NOT NULL DEFAULT false,
	PRIMARY KEY (build_id, epoch),
	CHECK (tail >= -1 AND tail <= length)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- No foreign key to log_head: the statement that inserts a chunk has just changed the head.
CREATE TABLE {schema}log_chunk (
	build_id uuid NOT NULL,
	epoch bigint NOT NULL,
	start bigint NOT NULL CHECK (start >= 0),
	data bytea NOT NULL CHECK (octet_length(data) > 0),
	PRIMARY KEY (build_id, epoch, start)
);

-- Names are listed in the order of their bytes, whatever the order of the database's own language.
CREATE TABLE {schema}artifact (
	build_id uuid NOT NULL REFERENCES {schema}build,
	epoch bigint NOT NULL CHECK (epoch >= 1),
	size bigint NOT NULL CHECK (size >= 0),
	created_at timestamptz NOT NULL,
	committed boolean NOT NULL DEFAULT false,
	project text NOT NULL CHECK (project <> ''),
	name text COLLATE "C" NOT NULL CHECK (name <> ''),
	digest bytea NOT NULL CHECK (octet_length(digest) = 32),
	PRIMARY KEY (build_id, epoch, name)
);
