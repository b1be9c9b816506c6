INSERT INTO {schema}class (pool, labels)
SELECT DISTINCT u.pool, u.labels
FROM (
	SELECT z.pool, z.labels FROM (
		SELECT b.pool, b.labels FROM {schema}build b WHERE b.state = 0 AND b.class_id IS NULL
		ORDER BY b.rank, b.id LIMIT 512) z
	LIMIT $1) u
WHERE NOT EXISTS (SELECT FROM {schema}class c WHERE c.pool = u.pool AND c.labels = u.labels)
ORDER BY u.pool, u.labels
