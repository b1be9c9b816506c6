WITH picked AS MATERIALIZED (
	SELECT z.id, z.class_id FROM (
		SELECT b.id, c.id AS class_id
		FROM {schema}build b JOIN {schema}class c ON c.pool = b.pool AND c.labels = b.labels
		WHERE b.state = 0 AND b.class_id IS NULL
		ORDER BY b.rank, b.id LIMIT 512 FOR NO KEY UPDATE OF b SKIP LOCKED) z
	LIMIT $1
)
UPDATE {schema}build b SET state = 1, class_id = p.class_id
FROM picked p
WHERE b.id = p.id
