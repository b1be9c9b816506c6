WITH offered AS MATERIALIZED (
	SELECT b.id
	FROM unnest($2::uuid[], $3::bigint[]) AS i(id, epoch)
	JOIN {schema}build b ON b.id = i.id AND b.epoch = i.epoch
	WHERE b.id = ANY($2::uuid[]) AND b.state = 2
	ORDER BY b.id FOR NO KEY UPDATE OF b
)
UPDATE {schema}build b SET
	state = 1, session_id = NULL, deadline = NULL,
	avoid_worker = b.worker, avoid_until = coalesce($1::timestamptz, statement_timestamp()) + $4::bigint * interval '1 microsecond'
FROM offered o
WHERE b.id = o.id
RETURNING b.id, b.epoch
