INSERT INTO {schema}build (id, project, pool, labels, class_id, state, rank, spec, source_digest, source_size,
	run_timeout, queue_timeout, max_attempts, created_at, expires_at)
SELECT i.id, i.project, i.pool, i.labels, c.id, CASE WHEN c.id IS NULL THEN 0 ELSE 1 END,
	(extract(epoch FROM coalesce($1::timestamptz, statement_timestamp())) * 1000000)::bigint, nullif(i.spec, ''), nullif(i.source_digest, ''),
	CASE WHEN i.source_digest <> '' THEN i.source_size END, i.run_timeout, nullif(i.queue_timeout, 0), i.max_attempts,
	coalesce($1::timestamptz, statement_timestamp()), coalesce($1::timestamptz, statement_timestamp()) + nullif(i.queue_timeout, 0) * interval '1 microsecond'
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[], $9::bigint[], $10::bigint[],
	$11::bigint[]) AS i(id, project, pool, labels, spec, source_digest, source_size, run_timeout, queue_timeout, max_attempts)
LEFT JOIN {schema}class c ON c.pool = i.pool AND c.labels = i.labels
ORDER BY i.id
