WITH ending AS MATERIALIZED (
	SELECT b.id, b.epoch, b.worker, b.attempts_used, b.max_attempts, b.started_at, true AS reported,
		CASE WHEN b.state = 4 AND i.outcome = 10 THEN 7 ELSE i.outcome END AS outcome,
		i.reason, i.exit_code, i.signal, i.log_length, i.log_sha256
	FROM unnest($4::uuid[], $5::bigint[], $6::smallint[], $7::text[], $8::bigint[], $9::text[], $10::bigint[], $11::bytea[])
		AS i(id, epoch, outcome, reason, exit_code, signal, log_length, log_sha256)
	JOIN {schema}build b ON b.id = i.id AND b.epoch = i.epoch
	WHERE b.id = ANY($4::uuid[]) AND b.state IN (3, 4)
	ORDER BY b.id FOR NO KEY UPDATE OF b
), over AS MATERIALIZED (
	SELECT e.*, d.delay, CASE
		WHEN e.outcome <> 10 THEN e.outcome
		WHEN e.attempts_used >= e.max_attempts THEN 10
		WHEN d.delay > 0 THEN 0
		ELSE 1 END AS state
	FROM ending e CROSS JOIN LATERAL (SELECT ($2::bigint[])[least(e.attempts_used, cardinality($2::bigint[]))] AS delay) d
), head AS (
	INSERT INTO {schema}log_head AS h (build_id, epoch, length, closed)
	SELECT o.id, o.epoch, 0, true FROM over o ORDER BY o.id
	ON CONFLICT (build_id, epoch) DO UPDATE SET closed = true
	RETURNING h.build_id, h.length
), history AS (
	INSERT INTO {schema}attempt (build_id, epoch, worker, started_at, ended_at, outcome, result, reason, exit_code, signal,
		log_sha256, log_complete)
	SELECT o.id, o.epoch, o.worker, o.started_at, coalesce($1::timestamptz, statement_timestamp()), o.outcome, CASE WHEN o.reported THEN o.state END, o.reason, o.exit_code, o.signal,
		o.log_sha256, coalesce(o.log_length = h.length, false)
	FROM over o JOIN head h ON h.build_id = o.id
)
UPDATE {schema}build b SET
	state = o.state,
	session_id = NULL,
	deadline = NULL,
	token_hash = NULL,
	not_before = CASE WHEN o.state = 0 THEN coalesce($1::timestamptz, statement_timestamp()) + o.delay * interval '1 microsecond' END,
	expires_at = CASE WHEN o.state < 2 THEN coalesce($1::timestamptz, statement_timestamp()) + b.queue_timeout * interval '1 microsecond' ELSE b.expires_at END,
	avoid_worker = CASE WHEN o.state < 2 THEN b.worker ELSE b.avoid_worker END,
	avoid_until = CASE WHEN o.state < 2 THEN coalesce($1::timestamptz, statement_timestamp()) + $3::bigint * interval '1 microsecond' ELSE b.avoid_until END,
	finished_at = CASE WHEN o.state >= 5 THEN coalesce($1::timestamptz, statement_timestamp()) END,
	reason = CASE WHEN o.state < 2 OR b.state = 4 AND o.state = 7 THEN b.reason ELSE o.reason END,
	exit_code = CASE WHEN o.state >= 5 THEN o.exit_code ELSE b.exit_code END,
	signal = CASE WHEN o.state >= 5 THEN o.signal ELSE b.signal END
FROM over o
WHERE b.id = o.id
RETURNING b.id, b.epoch, b.state
