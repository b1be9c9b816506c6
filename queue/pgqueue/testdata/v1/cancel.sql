WITH found AS MATERIALIZED (
	SELECT id, state FROM {schema}build WHERE id = $2 AND project = $3 FOR NO KEY UPDATE
), changed AS (
	UPDATE {schema}build b SET
		state = CASE WHEN b.state = 3 THEN 4 ELSE 7 END,
		reason = $4,
		deadline = CASE WHEN b.state = 3 THEN coalesce($1::timestamptz, statement_timestamp()) + $5::bigint * interval '1 microsecond' END,
		session_id = CASE WHEN b.state = 3 THEN b.session_id END,
		finished_at = CASE WHEN b.state = 3 THEN NULL ELSE coalesce($1::timestamptz, statement_timestamp()) END,
		not_before = NULL
	FROM found f
	WHERE b.id = $2 AND f.state <= 3
)
SELECT state FROM found
