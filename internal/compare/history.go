package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// Builds of the history are of so many projects, the first of which have the most, and so many workers.
	historyProjects = 100
	historyWorkers  = 50
	// historyDays is how long ago the first of them ended. The last tenth of them ended in the last five days, all others before
	// historyKept days ago.
	historyDays = 100
	historyKept = 10
)

// historySQL inserts builds that have ended, in the order of their ids, with what they leave behind. What there is of each kind is
// plausible for a service that has worked for a while: most succeeded, a few waited in vain, some were attempted again. States are as they are
// stored: 5 succeeded, 6 failed, 7 canceled, 8 timed out, 9 expired, 10 lost.
var historySQL = []string{
	`SELECT setseed(0.5)`,
	`CREATE TEMPORARY TABLE history ON COMMIT DROP AS
	SELECT i, lpad(to_hex((extract(epoch FROM created_at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(i & 4095), 3, '0')
			|| '8' || left(md5(i::text), 15) AS id,
		created_at, state, CASE state WHEN 9 THEN 0 WHEN 10 THEN 3 ELSE 1 + (random() < 0.05)::int END AS attempts,
		'project-' || floor({projects} * random() ^ 2) AS project, 'worker-' || floor({workers} * random()) AS worker,
		created_at + random() * interval '1 minute' AS started_at, created_at + (1 + random() * 9) * interval '1 minute' AS finished_at
	FROM (
		SELECT i, now() - interval '1 hour' - CASE
				WHEN i <= {builds} * 0.9
				THEN interval '{kept} days' * 2 + (interval '{days} days' - interval '{kept} days' * 2) * (1 - i / ({builds} * 0.9))
				ELSE interval '{kept} days' / 2 * (1 - (i - {builds} * 0.9) / ({builds} * 0.1)) END AS created_at,
			CASE WHEN r < 0.9 THEN 5 WHEN r < 0.96 THEN 6 WHEN r < 0.98 THEN 7 WHEN r < 0.99 THEN 8 WHEN r < 0.995 THEN 9 ELSE 10 END AS state
		FROM (SELECT i, random() AS r FROM generate_series(1, {builds}) AS i) n) n`,
	`INSERT INTO slipway.build (id, rank, epoch, run_timeout, queue_timeout, expires_at, created_at, started_at, finished_at, class_id,
		attempts_used, max_attempts, state, project, pool, labels, worker, reason, exit_code, spec)
	SELECT h.id::uuid, (extract(epoch FROM h.created_at) * 1000000)::bigint, h.attempts, 3600000000,
		CASE WHEN h.state = 9 THEN 600000000 END, CASE WHEN h.state = 9 THEN h.finished_at END, h.created_at,
		CASE WHEN h.attempts > 0 THEN h.started_at END, h.finished_at, c.id, h.attempts, 3, h.state, h.project, 'default', c.labels,
		CASE WHEN h.attempts > 0 THEN h.worker ELSE '' END, '', CASE h.state WHEN 5 THEN 0 WHEN 6 THEN 1 END, $1
	FROM history h CROSS JOIN (SELECT id, labels FROM slipway.class ORDER BY id LIMIT 1) c ORDER BY h.i`,
	`INSERT INTO slipway.attempt (build_id, epoch, started_at, ended_at, exit_code, outcome, result, log_complete, worker, reason, signal,
		log_sha256)
	SELECT h.id::uuid, e, h.started_at, h.finished_at, CASE h.state WHEN 5 THEN 0 WHEN 6 THEN 1 END,
		CASE WHEN e < h.attempts THEN 10 ELSE h.state END, CASE WHEN e = h.attempts THEN h.state ELSE 0 END, true, h.worker, '', '',
		sha256(h.id::bytea)
	FROM history h CROSS JOIN LATERAL generate_series(1, h.attempts) AS e ORDER BY h.i, e`,
	`INSERT INTO slipway.log_head (build_id, epoch, length, lines, closed)
	SELECT h.id::uuid, e, 256, 4, true FROM history h CROSS JOIN LATERAL generate_series(1, h.attempts) AS e ORDER BY h.i, e`,
	`INSERT INTO slipway.log_chunk (build_id, epoch, start, data)
	SELECT h.id::uuid, e, 0, repeat(md5(h.id) || md5(h.worker), 4)::bytea
	FROM history h CROSS JOIN LATERAL generate_series(1, h.attempts) AS e ORDER BY h.i, e`,
	`INSERT INTO slipway.artifact (build_id, epoch, size, created_at, committed, project, name, digest, charged)
	SELECT h.id::uuid, h.attempts, 1000000, h.finished_at, true, h.project, 'out.tar', sha256(h.id::bytea), true
	FROM history h WHERE h.state = 5 AND h.i % 10 = 0 ORDER BY h.i`,
	`INSERT INTO slipway.project (name, artifact_bytes) SELECT project, sum(size) FROM slipway.artifact GROUP BY project`,
	`INSERT INTO slipway.stat (project, day, submitted, succeeded, failed, canceled, timed_out, expired, lost, attempts, waited, ran)
	SELECT h.project, (h.finished_at AT TIME ZONE 'UTC')::date, count(*), count(*) FILTER (WHERE h.state = 5),
		count(*) FILTER (WHERE h.state = 6), count(*) FILTER (WHERE h.state = 7), count(*) FILTER (WHERE h.state = 8),
		count(*) FILTER (WHERE h.state = 9), count(*) FILTER (WHERE h.state = 10), sum(h.attempts), count(*) * 30000000, count(*) * 300000000
	FROM history h GROUP BY 1, 2`,
}

// fillHistory inserts that many builds in one transaction, and has the server settle.
func fillHistory(ctx context.Context, db *database, builds int) error {
	tx, err := db.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	names := strings.NewReplacer("{builds}", strconv.Itoa(builds), "{projects}", strconv.Itoa(historyProjects),
		"{workers}", strconv.Itoa(historyWorkers), "{days}", strconv.Itoa(historyDays), "{kept}", strconv.Itoa(historyKept))
	for _, sql := range historySQL {
		var args []any
		if strings.Contains(sql, "$1") {
			params, err := slipwayParams(newOrder(unnumbered))
			if err != nil {
				return err
			}
			args = append(args, params.Spec)
		}
		if _, err := tx.Exec(ctx, names.Replace(sql), args...); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	return db.settle(ctx)
}

// historyTime is a time at random in which builds of the history were submitted, given how far back as a fraction.
func historyTime(now time.Time, back float64) time.Time {
	return now.Add(-time.Duration(back * historyDays * 24 * float64(time.Hour)))
}
