WITH held AS MATERIALIZED (
	SELECT b.id FROM {schema}build b
	WHERE b.id = $1 AND b.epoch = $2 AND b.state IN (3, 4) FOR SHARE
), shown AS (
	UPDATE {schema}artifact a SET committed = true
	FROM held WHERE a.build_id = $1 AND a.epoch = $2 AND a.name = $3
	RETURNING a.project, a.digest, a.size, a.created_at
)
SELECT s.project, s.digest, s.size, s.created_at FROM held LEFT JOIN shown s ON true
