WITH offered AS MATERIALIZED (
	SELECT b.id, i.token_hash, i.slack
	FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[]) AS i(id, epoch, session_id, token_hash, slack)
	JOIN {schema}build b ON b.id = i.id AND b.epoch = i.epoch AND b.session_id IS NOT DISTINCT FROM i.session_id
	WHERE b.id = ANY($2::uuid[]) AND b.state = 2
	ORDER BY b.id FOR NO KEY UPDATE OF b
)
UPDATE {schema}build b SET
	state = 3,
	attempts_used = b.attempts_used + 1,
	started_at = coalesce($1::timestamptz, statement_timestamp()),
	deadline = coalesce($1::timestamptz, statement_timestamp()) + (b.run_timeout + o.slack) * interval '1 microsecond',
	token_hash = o.token_hash
FROM offered o
WHERE b.id = o.id
RETURNING b.id, b.epoch
