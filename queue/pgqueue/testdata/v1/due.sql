WITH picked AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT b.id FROM {schema}build b
		WHERE b.state = 0 AND b.not_before IS NOT NULL AND b.not_before <= coalesce($1::timestamptz, statement_timestamp()) AND b.class_id IS NOT NULL
		ORDER BY b.not_before LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET state = 1, not_before = NULL
FROM picked p
WHERE b.id = p.id
