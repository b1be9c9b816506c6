WITH held AS MATERIALIZED (
	SELECT b.id, b.epoch, b.project FROM {schema}build b
	WHERE b.id = $2 AND b.epoch = $3 AND b.state IN (3, 4) FOR SHARE
)
INSERT INTO {schema}artifact AS a (build_id, epoch, project, name, digest, size, created_at)
SELECT h.id, h.epoch, h.project, $4, $5, $6, coalesce($1::timestamptz, statement_timestamp()) FROM held h
ON CONFLICT (build_id, epoch, name) DO UPDATE SET digest = a.digest
RETURNING a.project, a.name, a.digest, a.size, a.committed, a.created_at
