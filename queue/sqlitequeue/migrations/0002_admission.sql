-- min_compatible: 1
--
-- Programs that know version 1 only go on working. What they must not queue, because it has to be admitted or waits for its time, they
-- do not see: it is held with a class, or with class 0 until its class is known, where they look for builds without one. What they
-- would queue when its time has come, the trigger build_gate keeps back. What they count for nobody, triggers count.

ALTER TABLE {schema}build ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {schema}build ADD COLUMN retry_failed INTEGER NOT NULL DEFAULT 0 CHECK (retry_failed IN (0, 1));
ALTER TABLE {schema}build ADD COLUMN admitted INTEGER NOT NULL DEFAULT 0 CHECK (admitted IN (0, 1));
ALTER TABLE {schema}build ADD COLUMN backoff_base INTEGER NOT NULL DEFAULT 5000000 CHECK (backoff_base >= 0);
ALTER TABLE {schema}build ADD COLUMN backoff_max INTEGER NOT NULL DEFAULT 300000000 CHECK (backoff_max >= backoff_base);
ALTER TABLE {schema}build ADD COLUMN limit_key TEXT NOT NULL DEFAULT '' CHECK (class_id >= 0 AND (state <> {queued} OR class_id > 0));
ALTER TABLE {schema}build ADD COLUMN idem_key TEXT;
ALTER TABLE {schema}build ADD COLUMN idem_hash BLOB CHECK (length(idem_hash) = 32 AND (idem_key IS NULL) = (idem_hash IS NULL));
ALTER TABLE {schema}build ADD COLUMN metadata TEXT;
ALTER TABLE {schema}build ADD COLUMN retry_of BLOB CHECK (length(retry_of) = 16);
-- The time that the submitter scheduled the build for, null if it was none. It outlasts not_before.
ALTER TABLE {schema}build ADD COLUMN scheduled_at INTEGER;

-- What waits for its class and must be admitted after that, or waits for its time.
CREATE INDEX {schema}build_unknown ON {schema}build (rank, id) WHERE state = {held} AND class_id = 0;
-- What waits to be admitted, by lanes. In a lane what can be admitted is found without walking over classes that nobody serves.
CREATE INDEX {schema}build_gated ON {schema}build (pool, project, limit_key, class_id, rank, id)
	WHERE state = {held} AND class_id > 0 AND not_before IS NULL;
-- What fills the windows of fair pools, and what is held again when its project is paused.
CREATE INDEX {schema}build_waiting ON {schema}build (project, pool) WHERE state = {queued};
-- What uses up limits.
CREATE INDEX {schema}build_limited ON {schema}build (project, limit_key, state, class_id) WHERE limit_key <> '' AND state BETWEEN {queued} AND {cancelling};
CREATE UNIQUE INDEX {schema}build_idem_key ON {schema}build (project, idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX {schema}build_idem_end ON {schema}build (finished_at) WHERE idem_key IS NOT NULL AND finished_at IS NOT NULL;
-- Lists and retention. A build enters these once, at its end.
CREATE INDEX {schema}build_finished_at ON {schema}build (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX {schema}build_end ON {schema}build (state, id) WHERE finished_at IS NOT NULL;
CREATE INDEX {schema}build_project_end ON {schema}build (project, state, id) WHERE finished_at IS NOT NULL;
-- What a worker had. Whatever it has is found by its session.
CREATE INDEX {schema}build_worker ON {schema}build (worker, id) WHERE session_id IS NULL AND worker <> '';

-- A program of version 1 queues whatever its time has come for. Not what has to be admitted, or has no class yet.
CREATE TRIGGER {schema}build_gate BEFORE UPDATE OF state ON {schema}build
WHEN NEW.state = {queued} AND OLD.state = {held} AND OLD.not_before IS NOT NULL AND (NEW.class_id = 0 OR NEW.limit_key <> '')
BEGIN SELECT RAISE(IGNORE)
; END;

-- Until when live sessions are known to serve a class.
ALTER TABLE {schema}class ADD COLUMN served_until INTEGER;

-- virtual_end is the greatest end of a build that the pool, if fair, has admitted; that of a share is of the project's last.
CREATE TABLE {schema}pool (
	name        TEXT NOT NULL PRIMARY KEY CHECK (name <> ''),
	paused      INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
	fair        INTEGER NOT NULL DEFAULT 0 CHECK (fair IN (0, 1)),
	virtual_end INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE {schema}share (
	pool        TEXT NOT NULL,
	project     TEXT NOT NULL,
	weight      INTEGER NOT NULL DEFAULT 1 CHECK (weight > 0),
	virtual_end INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (pool, project)
) STRICT, WITHOUT ROWID;

CREATE TABLE {schema}project (
	name           TEXT NOT NULL PRIMARY KEY CHECK (name <> ''),
	paused         INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
	artifact_quota INTEGER NOT NULL DEFAULT 0 CHECK (artifact_quota >= 0),
	artifact_bytes INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX {schema}project_paused ON {schema}project (name) WHERE paused = 1;

INSERT INTO {schema}project (name, artifact_bytes) SELECT project, sum(size) FROM {schema}artifact GROUP BY project;

-- Whoever makes or deletes the row of an artifact, artifact_bytes follows.
CREATE TRIGGER {schema}artifact_made AFTER INSERT ON {schema}artifact
BEGIN INSERT INTO {schema}project (name, artifact_bytes) VALUES (NEW.project, NEW.size)
	ON CONFLICT (name) DO UPDATE SET artifact_bytes = artifact_bytes + NEW.size
; END;

CREATE TRIGGER {schema}artifact_deleted AFTER DELETE ON {schema}artifact
BEGIN UPDATE {schema}project SET artifact_bytes = artifact_bytes - OLD.size WHERE name = OLD.project
; END;

CREATE TABLE {schema}build_limit (
	project     TEXT NOT NULL,
	key         TEXT NOT NULL CHECK (key <> ''),
	max_running INTEGER NOT NULL CHECK (max_running > 0),
	PRIMARY KEY (project, key)
) STRICT, WITHOUT ROWID;

-- What was counted, by project and day in UTC: the number of days since 1970. Durations are microseconds.
CREATE TABLE {schema}stat (
	project   TEXT NOT NULL,
	day       INTEGER NOT NULL,
	submitted INTEGER NOT NULL DEFAULT 0,
	succeeded INTEGER NOT NULL DEFAULT 0,
	failed    INTEGER NOT NULL DEFAULT 0,
	canceled  INTEGER NOT NULL DEFAULT 0,
	timed_out INTEGER NOT NULL DEFAULT 0,
	expired   INTEGER NOT NULL DEFAULT 0,
	lost      INTEGER NOT NULL DEFAULT 0,
	attempts  INTEGER NOT NULL DEFAULT 0,
	waited    INTEGER NOT NULL DEFAULT 0,
	ran       INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (project, day)
) STRICT, WITHOUT ROWID;

CREATE INDEX {schema}stat_day ON {schema}stat (day);

-- Each change counts with itself, in whichever program and transaction it is made.
CREATE TRIGGER {schema}build_submitted AFTER INSERT ON {schema}build
BEGIN INSERT INTO {schema}stat (project, day, submitted) VALUES (NEW.project, NEW.created_at / 86400000000, 1)
	ON CONFLICT (project, day) DO UPDATE SET submitted = submitted + 1
; END;

CREATE TRIGGER {schema}build_ended AFTER UPDATE OF state ON {schema}build WHEN NEW.state >= {succeeded} AND OLD.state < {succeeded}
BEGIN INSERT INTO {schema}stat (project, day, succeeded, failed, canceled, timed_out, expired, lost, waited)
	VALUES (NEW.project, NEW.finished_at / 86400000000, NEW.state = {succeeded}, NEW.state = {failed}, NEW.state = {canceled},
		NEW.state = {timed_out}, NEW.state = {expired}, NEW.state = {lost},
		max(coalesce(NEW.started_at - coalesce(NEW.scheduled_at, NEW.created_at), 0), 0))
	ON CONFLICT (project, day) DO UPDATE SET
		succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed, canceled = canceled + excluded.canceled,
		timed_out = timed_out + excluded.timed_out, expired = expired + excluded.expired, lost = lost + excluded.lost,
		waited = waited + excluded.waited
; END;

CREATE TRIGGER {schema}attempt_ended AFTER INSERT ON {schema}attempt
BEGIN INSERT INTO {schema}stat (project, day, attempts, ran)
	SELECT b.project, NEW.ended_at / 86400000000, 1, max(NEW.ended_at - NEW.started_at, 0) FROM {schema}build AS b WHERE b.id = NEW.build_id
	ON CONFLICT (project, day) DO UPDATE SET attempts = attempts + 1, ran = ran + excluded.ran
; END;

ALTER TABLE {schema}log_head ADD COLUMN lines INTEGER NOT NULL DEFAULT 0 CHECK (lines >= 0);
ALTER TABLE {schema}log_head ADD COLUMN cut INTEGER NOT NULL DEFAULT 0 CHECK (cut IN (0, 1));
ALTER TABLE {schema}log_head ADD COLUMN archived INTEGER NOT NULL DEFAULT 0 CHECK (archived IN (0, 1));
ALTER TABLE {schema}log_head ADD COLUMN archiving_until INTEGER;

CREATE INDEX {schema}log_head_closed ON {schema}log_head (build_id, epoch) WHERE closed = 1 AND archived = 0 AND length > 0;

-- Logs of deleted builds that the archive has, or may have, and until when one process has each to itself to remove it from there.
CREATE TABLE {schema}log_drop (
	build_id    BLOB NOT NULL CHECK (length(build_id) = 16),
	epoch       INTEGER NOT NULL,
	project     TEXT NOT NULL,
	taken_until INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (build_id, epoch)
) STRICT, WITHOUT ROWID;

CREATE INDEX {schema}log_drop_free ON {schema}log_drop (taken_until, build_id, epoch);

-- Reservations, of which those of ended attempts are taken back.
CREATE INDEX {schema}artifact_reserved ON {schema}artifact (created_at) WHERE committed = 0;
