-- min_compatible: 1, of new tables: 2
--
-- Programs that know version 1 only go on working where they did before. What they must not queue, because it has to be admitted or waits for its time, they
-- do not see: it is held with a class, or with class 0 until its class is known, where they look for builds without one. (They want those by
-- rank, as no index has them, and sort all there are.) What they
-- would queue when its time has come, the trigger build_due keeps back. Pauses and fair pools they do not know: they claim what is queued
-- of a paused pool or project, and what they submit to a fair pool, or find there without a class, is queued until Maintain holds it.

ALTER TABLE {schema}build
	ADD COLUMN priority smallint NOT NULL DEFAULT 0,
	ADD COLUMN retry_failed boolean NOT NULL DEFAULT false,
	ADD COLUMN admitted boolean NOT NULL DEFAULT false,
	ADD COLUMN backoff_base bigint NOT NULL DEFAULT 5000000,
	ADD COLUMN backoff_max bigint NOT NULL DEFAULT 300000000,
	ADD COLUMN limit_key text NOT NULL DEFAULT '',
	ADD COLUMN idem_key text,
	ADD COLUMN idem_hash bytea,
	ADD COLUMN metadata text,
	ADD COLUMN retry_of uuid,
	ADD COLUMN scheduled_at timestamptz,
	-- Each statement that inserts or updates builds reads and compiles each of these anew, whatever the number of rows: all of them took half
	-- of the time of a submit. What they say is what the statements do, and the tests check it of every row they leave.
	DROP CONSTRAINT build_epoch_check,
	DROP CONSTRAINT build_run_timeout_check,
	DROP CONSTRAINT build_queue_timeout_check,
	DROP CONSTRAINT build_source_size_check,
	DROP CONSTRAINT build_class_id_check,
	DROP CONSTRAINT build_project_check,
	DROP CONSTRAINT build_pool_check,
	DROP CONSTRAINT build_source_digest_check,
	DROP CONSTRAINT build_token_hash_check,
	DROP CONSTRAINT build_state,
	DROP CONSTRAINT build_lease,
	DROP CONSTRAINT build_finished,
	DROP CONSTRAINT build_claimable,
	DROP CONSTRAINT build_held,
	DROP CONSTRAINT build_token,
	DROP CONSTRAINT build_attempts,
	DROP CONSTRAINT build_started,
	DROP CONSTRAINT build_worker,
	DROP CONSTRAINT build_avoid,
	DROP CONSTRAINT build_source,
	DROP CONSTRAINT build_expiry;

ALTER TABLE {schema}attempt
	DROP CONSTRAINT attempt_epoch_check,
	DROP CONSTRAINT attempt_outcome_check,
	DROP CONSTRAINT attempt_result_check,
	DROP CONSTRAINT attempt_worker_check,
	DROP CONSTRAINT attempt_log_sha256_check;

ALTER TABLE {schema}log_head
	DROP CONSTRAINT log_head_epoch_check,
	DROP CONSTRAINT log_head_length_check,
	DROP CONSTRAINT log_head_check;

-- Each change of a build's state writes it into every index that has it then, and each statement that inserts or updates opens all of them and
-- compiles their predicates. What others have as well goes, and so does what others find in a place of its own.
DROP INDEX {schema}build_project;
DROP INDEX {schema}build_cancelling;
DROP INDEX {schema}build_queued;
DROP INDEX {schema}build_unclassed;
DROP INDEX {schema}build_due;

-- What is queued, in the order in which it is claimed. And what waits for its class: null if it is queued as soon as that is known, 0 if it must be
-- admitted then, or waits for its time.
CREATE INDEX build_queued ON {schema}build (state, class_id, rank, id) WHERE state < 2;
-- What waits for its time, and, after all of that, what waits to be admitted, by lanes. In a lane what can be admitted is found without a walk over
-- classes that nobody serves. What has a time but no class is here for programs of version 1.
CREATE INDEX build_held ON {schema}build (not_before, pool, project, limit_key, class_id, rank, id)
	WHERE state = 0 AND (class_id > 0 OR not_before IS NOT NULL);
-- What uses up limits, and the windows of fair pools.
CREATE INDEX build_limited ON {schema}build (project, limit_key, state, class_id) WHERE limit_key <> '' AND state BETWEEN 1 AND 4;
CREATE INDEX build_admitted ON {schema}build (pool, project, rank) WHERE state = 1 AND admitted;
CREATE UNIQUE INDEX build_idem_key ON {schema}build (project, idem_key) WHERE idem_key IS NOT NULL;
-- Lists and retention, that of keys too. A build enters these once, at its end.
CREATE INDEX build_finished_at ON {schema}build ((idem_key IS NOT NULL), finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX build_end ON {schema}build (state, id) WHERE finished_at IS NOT NULL;
CREATE INDEX build_project_end ON {schema}build (project, state, id) WHERE finished_at IS NOT NULL;
-- What a worker had. Whatever it has is found by its session.
CREATE INDEX build_worker ON {schema}build (worker, id) WHERE session_id IS NULL AND worker <> '';

-- What has waited for its time is queued then, by whatever program, only if it need not be admitted and has a class.
CREATE FUNCTION {schema}build_due() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.state = 1 THEN
		IF NEW.class_id = 0 OR NEW.limit_key <> ''
			OR EXISTS (SELECT FROM {schema}pool p WHERE p.name = NEW.pool AND p.fair)
			OR EXISTS (SELECT FROM {schema}project p WHERE p.name = NEW.project AND p.paused)
		THEN
			SELECT 0, false, (extract(epoch FROM greatest(NEW.created_at, NEW.scheduled_at)) * 1000000)::bigint - NEW.priority * 60000000
			INTO NEW.state, NEW.admitted, NEW.rank
		; END IF
	; END IF
	; RETURN NEW
; END $$;

-- Any trigger costs each statement that updates builds: the server takes 4 % longer to finish one, 3 % for a hundred, and up to 3 % to claim
-- and accept. Only programs of version 1 need it, and where the tables are made just now, in this transaction, there has never been one.
-- There will be none either: new tables need version 2.
DO $$ BEGIN
	IF (SELECT c.xmin FROM pg_catalog.pg_class c WHERE c.oid = '{schema}controller'::regclass) <> pg_current_xact_id()::xid THEN
		CREATE TRIGGER build_due BEFORE UPDATE OF not_before ON {schema}build
			FOR EACH ROW WHEN (OLD.not_before IS NOT NULL) EXECUTE FUNCTION {schema}build_due()
	; END IF
; END $$;

-- Until when live sessions are known to serve a class.
ALTER TABLE {schema}class ADD COLUMN served_until timestamptz;

-- virtual_end is the greatest end of a build that the pool, if fair, has admitted; that of a share is of the project's last.
CREATE TABLE {schema}pool (
	name text COLLATE "C" PRIMARY KEY,
	paused boolean NOT NULL DEFAULT false,
	fair boolean NOT NULL DEFAULT false,
	virtual_end bigint NOT NULL DEFAULT 0
);

CREATE INDEX pool_paused ON {schema}pool (name) WHERE paused;

CREATE TABLE {schema}share (
	pool text COLLATE "C" NOT NULL,
	project text COLLATE "C" NOT NULL,
	weight integer NOT NULL DEFAULT 1 CHECK (weight > 0),
	virtual_end bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (pool, project)
) WITH (fillfactor = 50);

CREATE TABLE {schema}project (
	name text COLLATE "C" PRIMARY KEY,
	paused boolean NOT NULL DEFAULT false,
	artifact_quota bigint NOT NULL DEFAULT 0 CHECK (artifact_quota >= 0),
	artifact_bytes bigint NOT NULL DEFAULT 0 CHECK (artifact_bytes >= 0)
) WITH (fillfactor = 50);

CREATE INDEX project_paused ON {schema}project (name) WHERE paused;

INSERT INTO {schema}project (name, artifact_bytes) SELECT project, sum(size) FROM {schema}artifact GROUP BY project;

CREATE TABLE {schema}build_limit (
	project text NOT NULL,
	key text COLLATE "C" NOT NULL CHECK (key <> ''),
	max_running integer NOT NULL CHECK (max_running > 0),
	PRIMARY KEY (project, key)
);

-- What was counted, by project and day in UTC, and what is yet to be added to it. Durations are microseconds.
CREATE TABLE {schema}stat (
	project text COLLATE "C" NOT NULL,
	day date NOT NULL,
	submitted bigint NOT NULL DEFAULT 0,
	succeeded bigint NOT NULL DEFAULT 0,
	failed bigint NOT NULL DEFAULT 0,
	canceled bigint NOT NULL DEFAULT 0,
	timed_out bigint NOT NULL DEFAULT 0,
	expired bigint NOT NULL DEFAULT 0,
	lost bigint NOT NULL DEFAULT 0,
	attempts bigint NOT NULL DEFAULT 0,
	waited bigint NOT NULL DEFAULT 0,
	ran bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (project, day)
) WITH (fillfactor = 50);

CREATE INDEX stat_day ON {schema}stat (day);

CREATE TABLE {schema}stat_delta (LIKE {schema}stat INCLUDING DEFAULTS)
	WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

ALTER TABLE {schema}log_head
	ADD COLUMN lines bigint NOT NULL DEFAULT 0,
	ADD COLUMN cut boolean NOT NULL DEFAULT false,
	ADD COLUMN archived boolean NOT NULL DEFAULT false,
	ADD COLUMN archiving_until timestamptz;

CREATE INDEX log_head_closed ON {schema}log_head (build_id, epoch) WHERE closed AND NOT archived AND length > 0;

-- Logs of deleted builds that the archive has, or may have, and until when one process has each to itself to remove it from there.
CREATE TABLE {schema}log_drop (
	build_id uuid NOT NULL,
	epoch bigint NOT NULL,
	project text NOT NULL,
	taken_until timestamptz NOT NULL DEFAULT '-infinity',
	PRIMARY KEY (build_id, epoch)
);

CREATE INDEX log_drop_free ON {schema}log_drop (taken_until);

-- charged says that the size is in artifact_bytes of the project. It is not if a program of version 1 makes the row from now on.
ALTER TABLE {schema}artifact ADD COLUMN charged boolean NOT NULL DEFAULT true;
ALTER TABLE {schema}artifact ALTER COLUMN charged SET DEFAULT false;

-- Reservations, of which those of ended attempts are taken back.
CREATE INDEX artifact_reserved ON {schema}artifact (created_at) WHERE NOT committed;

-- Whatever makes a row of a build has the build's row locked, and retention deletes all of them in one statement. To check that costs twice
-- as much as the insert of an attempt, and for each build that is deleted a look into each of these tables.
ALTER TABLE {schema}attempt DROP CONSTRAINT attempt_build_id_fkey;
ALTER TABLE {schema}log_head DROP CONSTRAINT log_head_build_id_fkey;
ALTER TABLE {schema}artifact DROP CONSTRAINT artifact_build_id_fkey;
