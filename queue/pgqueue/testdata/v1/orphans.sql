WITH picked AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT b.id FROM {schema}build b
		WHERE b.session_id IS NOT NULL AND b.state = 2 AND b.deadline > coalesce($1::timestamptz, statement_timestamp())
			AND b.session_id = ANY(ARRAY(SELECT s.id FROM {schema}session s WHERE s.ended_at IS NOT NULL))
		LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET state = 1, session_id = NULL, deadline = NULL
FROM picked p
WHERE b.id = p.id
