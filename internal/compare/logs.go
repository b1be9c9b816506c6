package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

const (
	logWrite = 32 << 10 // bytes that a build writes at once
	logText  = 4 << 20  // bytes after which its lines are the same again
	// logMost is how many times slower than COPY logs may be.
	logMost = 5
)

// logBuilds is how many builds write at once.
var logBuilds = []int{1, 4, 16}

// runLogs measures how fast the logs of builds arrive in the database, from an agent in this process through a controller in another,
// beside COPY of as many bytes, in rows of the same size, to a table like the one they are in.
func runLogs(ctx context.Context, b *bench) error {
	var all [][]finding
	for run := range b.runs {
		var found []finding
		for _, builds := range logBuilds {
			stored, copied, err := b.logRun(ctx, builds)
			if err != nil {
				return fmt.Errorf("logs of %d builds: %w", builds, err)
			}
			b.progress("run %d  logs of %d builds: %s MB/s, COPY %s MB/s", run+1, builds, number(stored), number(copied))
			name := fmt.Sprintf("logs.%d", builds)
			found = append(found,
				finding{Figure: name, Unit: "MB/s", Value: stored},
				finding{Figure: name + ".copy", Unit: "MB/s", Value: copied},
				finding{Figure: name + ".slower", Unit: "times", Value: copied / stored, Limit: new(float64(logMost))},
			)
		}
		all = append(all, found)
	}
	return b.report.findings(medians(all)...)
}

// logRun returns the rates of both, in MB/s.
func (b *bench) logRun(ctx context.Context, builds int) (stored, copied float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel() // ends the controller whatever happens
	db, side, err := b.slipway(ctx, "logs", queue.Options{})
	if err != nil {
		return 0, 0, err
	}
	defer b.server.drop(context.WithoutCancel(ctx), db.name) //nolint:errcheck // the server itself goes soon
	defer db.pool.Close()
	keys, err := workerKeys(ctx, db, 1)
	if err != nil {
		return 0, 0, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return 0, 0, err
	}
	hub, err := startHub(ctx, db, address, b.pool)
	if err != nil {
		return 0, 0, err
	}
	took, err := b.ship(ctx, side, address, keys[0], builds)
	if err = errors.Join(err, hub.stop()); err != nil {
		return 0, 0, err
	}
	total := float64(b.sizes.logBytes / builds * builds)
	var length, rows float64
	var whole bool
	const sumSQL = `SELECT (SELECT sum(octet_length(data))::float8 FROM slipway.log_chunk), (SELECT count(*)::float8 FROM slipway.log_chunk),
		(SELECT bool_and(log_complete) FROM slipway.attempt)`
	if err := db.pool.QueryRow(ctx, sumSQL).Scan(&length, &rows, &whole); err != nil {
		return 0, 0, err
	}
	if length != total || !whole {
		return 0, 0, fmt.Errorf("%v bytes are stored of %v; all logs are whole: %t", length, total, whole)
	}
	again, err := copyLogs(ctx, db, int(total), int(rows))
	return total / 1e6 / took.Seconds(), total / 1e6 / again.Seconds(), err
}

// ship has an agent run builds that write their logs, and returns how long it took from the first byte to the end of the last build.
func (b *bench) ship(ctx context.Context, side *slipwaySide, address, key string, builds int) (time.Duration, error) {
	dir, err := os.MkdirTemp("", "compare-logs-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // of no further use
	w := &logWriter{text: logLines(), bytes: b.sizes.logBytes / builds, begun: make(chan time.Time, builds)}
	agent, err := worker.NewAgent(worker.AgentOptions{
		URLs: []string{"http://" + address}, Credential: worker.Secret(key), Worker: workerName(0), Executor: w, Dir: dir,
		Slots: builds, SpoolMax: 1 << 30, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, err
	}
	ids := make([]queue.ID, builds)
	for i := range ids {
		if ids[i], err = side.queue.Submit(ctx, queue.Params{Project: slipwayProject, Pool: idlePool}); err != nil {
			return 0, err
		}
	}
	working, enough := context.WithCancel(ctx)
	defer enough()
	group, groupCtx := errgroup.WithContext(working)
	group.Go(func() error { return side.keep(groupCtx) })
	group.Go(func() error { return agent.Run(groupCtx) })
	var took time.Duration
	group.Go(func() error {
		defer enough()
		for _, id := range ids {
			done, err := side.queue.Wait(groupCtx, slipwayProject, id)
			if err != nil {
				return err
			}
			if done.State != queue.Succeeded {
				return fmt.Errorf("build %v is %v: %s", id, done.State, done.Reason)
			}
		}
		took = time.Since(<-w.begun)
		return nil
	})
	return took, group.Wait()
}

// A logWriter is an executor whose builds do nothing but write.
type logWriter struct {
	text  []byte
	bytes int
	begun chan time.Time
}

// Run implements [worker.Executor].
func (w *logWriter) Run(_ context.Context, job worker.Job) (worker.Result, error) {
	w.begun <- time.Now()
	for left, at := w.bytes, 0; left > 0; at = (at + logWrite) % logText {
		n := min(left, logWrite)
		if _, err := job.Log.Write(w.text[at : at+n]); err != nil {
			return worker.Result{}, err
		}
		left -= n
	}
	return worker.Result{}, nil
}

// logLines are lines such as builds write: a time, where it comes from, words and a number.
func logLines() []byte {
	random := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("compiling linking downloading testing resolving module package object cached generated warning unused variable")
	var text []byte
	for at := time.Unix(1_700_000_000, 0).UTC(); len(text) < logText; at = at.Add(time.Duration(random.IntN(1e6))) {
		text = at.AppendFormat(text, "15:04:05.000000")
		for range 2 + random.IntN(8) {
			text = fmt.Appendf(text, " %s", words[random.IntN(len(words))])
		}
		text = fmt.Appendf(text, " %x\n", random.Uint64())
	}
	return text[:logText]
}

// copyLogs stores that many bytes in that many rows, and returns how long it took.
func copyLogs(ctx context.Context, db *database, bytes, rows int) (time.Duration, error) {
	if _, err := db.pool.Exec(ctx, `CREATE TABLE raw (LIKE slipway.log_chunk INCLUDING ALL)`); err != nil {
		return 0, err
	}
	text, size, id := logLines(), bytes/rows, [16]byte(queue.NewID())
	begun := time.Now()
	_, err := db.pool.CopyFrom(ctx, pgx.Identifier{"raw"}, []string{"build_id", "epoch", "start", "data"},
		pgx.CopyFromSlice(rows, func(i int) ([]any, error) {
			at := i * size % (logText - size)
			return []any{id, int64(1), int64(i * size), text[at : at+size]}, nil
		}))
	return time.Since(begun), err
}
