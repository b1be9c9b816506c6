WITH beating AS (
	INSERT INTO {schema}controller AS c (id, alive_until, fresh_since)
	VALUES ($2, coalesce($1::timestamptz, statement_timestamp()) + $3::bigint * interval '1 microsecond', coalesce($1::timestamptz, statement_timestamp()))
	ON CONFLICT (id) DO UPDATE SET
		alive_until = greatest(c.alive_until, excluded.alive_until),
		fresh_since = CASE WHEN c.alive_until < coalesce($1::timestamptz, statement_timestamp()) THEN coalesce($1::timestamptz, statement_timestamp()) ELSE c.fresh_since END
	RETURNING c.fresh_since
)
SELECT (extract(epoch FROM coalesce($1::timestamptz, statement_timestamp()) - fresh_since) * 1000000)::bigint,
	ARRAY(SELECT s.id FROM {schema}session s WHERE s.controller_id = $2 AND s.replaced ORDER BY s.id)
FROM beating
