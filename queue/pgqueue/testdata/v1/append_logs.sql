WITH chunk AS MATERIALIZED (
	SELECT i.build_id, i.epoch, i.start, i.data, octet_length(i.data) AS size,
		(SELECT h.epoch FROM {schema}log_head h WHERE h.build_id = i.build_id AND h.epoch = i.epoch) IS NOT NULL AS known
	FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[]) AS i(build_id, epoch, start, data)
), begun AS MATERIALIZED (
	SELECT b.id, b.epoch
	FROM chunk c JOIN {schema}build b ON b.id = c.build_id AND b.epoch = c.epoch
	WHERE NOT c.known AND b.id = ANY(ARRAY(SELECT n.build_id FROM chunk n WHERE NOT n.known)) AND b.state IN (3, 4)
	ORDER BY b.id FOR SHARE OF b
), head AS (
	INSERT INTO {schema}log_head AS h (build_id, epoch, length, tail)
	SELECT c.build_id, c.epoch, CASE WHEN p.stores THEN c.start + c.size ELSE 0 END, CASE WHEN p.stores THEN c.start ELSE -1 END
	FROM chunk c CROSS JOIN LATERAL (SELECT c.size > 0 AND (c.known OR c.start = 0) AS stores) p
	WHERE c.known OR (c.build_id, c.epoch) IN (SELECT id, epoch FROM begun)
	ORDER BY c.build_id, c.epoch
	ON CONFLICT (build_id, epoch) DO UPDATE SET
		length = CASE WHEN excluded.tail <= h.length THEN greatest(h.length, excluded.length) ELSE h.length END,
		tail = CASE WHEN excluded.tail <= h.length AND h.length < excluded.length THEN h.length ELSE -1 END
	WHERE NOT h.closed
	RETURNING h.build_id, h.epoch, h.length, h.tail
), stored AS (
	INSERT INTO {schema}log_chunk (build_id, epoch, start, data)
	SELECT h.build_id, h.epoch, h.tail, substring(c.data FROM (h.tail - c.start + 1)::int)
	FROM head h JOIN chunk c ON c.build_id = h.build_id AND c.epoch = h.epoch
	WHERE h.tail >= 0
)
SELECT build_id, epoch, length FROM head
