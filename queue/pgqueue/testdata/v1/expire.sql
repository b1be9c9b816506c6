WITH picked AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT b.id FROM {schema}build b
		WHERE b.state < 2 AND b.expires_at IS NOT NULL AND b.expires_at <= coalesce($1::timestamptz, statement_timestamp())
		ORDER BY b.expires_at LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET state = 9, finished_at = coalesce($1::timestamptz, statement_timestamp()), not_before = NULL, reason = $3
FROM picked p
WHERE b.id = p.id
