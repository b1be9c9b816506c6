WITH holder AS (
	INSERT INTO {schema}controller (id, alive_until, fresh_since) VALUES ($2, coalesce($1::timestamptz, statement_timestamp()), coalesce($1::timestamptz, statement_timestamp())) ON CONFLICT (id) DO NOTHING
), ended AS (
	UPDATE {schema}session SET ended_at = coalesce($1::timestamptz, statement_timestamp()), replaced = true WHERE worker = $3 AND ended_at IS NULL RETURNING id
)
INSERT INTO {schema}session (controller_id, worker, instance, labels, pools, slots, direct, opened_at)
SELECT $2, $3, $4, $5, $6, $7, $8, coalesce($1::timestamptz, statement_timestamp()) FROM (SELECT count(*) FROM ended) e
RETURNING id
