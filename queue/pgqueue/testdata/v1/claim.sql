WITH demand AS MATERIALIZED (
	SELECT k.class_id, count(*) AS n, array_agg(s.id ORDER BY k.slot) AS sessions, array_agg(s.worker ORDER BY k.slot) AS workers,
		array_agg(s.direct ORDER BY k.slot) AS directs, CASE WHEN min(s.worker) = max(s.worker) THEN min(s.worker) END AS lone_worker
	FROM unnest($2::int[], $3::bigint[]) WITH ORDINALITY AS k(class_id, session_id, slot)
	JOIN {schema}session s ON s.id = k.session_id AND s.ended_at IS NULL
	GROUP BY k.class_id
), picked AS MATERIALIZED (
	SELECT r.id, d.sessions[r.slot] AS session_id, d.workers[r.slot] AS worker, d.directs[r.slot] AS direct
	FROM demand d CROSS JOIN LATERAL (
		SELECT z.id, (row_number() OVER ())::int AS slot
		FROM (
			SELECT q.id FROM {schema}build q
			WHERE q.state = 1 AND q.class_id = d.class_id
				AND (d.lone_worker IS NULL OR q.avoid_worker IS NULL OR q.avoid_worker <> d.lone_worker OR q.avoid_until <= coalesce($1::timestamptz, statement_timestamp()))
			ORDER BY q.rank, q.id LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
		LIMIT d.n) r
	LIMIT 512
)
UPDATE {schema}build b SET
	state = CASE WHEN p.direct THEN 3 ELSE 2 END,
	epoch = b.epoch + 1,
	session_id = p.session_id,
	worker = p.worker,
	deadline = coalesce($1::timestamptz, statement_timestamp()) + CASE WHEN p.direct THEN b.run_timeout ELSE $4::bigint END * interval '1 microsecond',
	attempts_used = b.attempts_used + p.direct::int,
	started_at = CASE WHEN p.direct THEN coalesce($1::timestamptz, statement_timestamp()) ELSE b.started_at END
FROM picked p
WHERE b.id = p.id
	AND (b.avoid_worker IS NULL OR b.avoid_worker <> p.worker OR b.avoid_until <= coalesce($1::timestamptz, statement_timestamp()))
RETURNING b.id, b.epoch, b.rank, b.session_id, b.class_id, b.project, b.pool, CASE WHEN octet_length(b.spec) <= $5 THEN b.spec END,
	coalesce(octet_length(b.spec), 0), b.source_digest, b.source_size, b.run_timeout
