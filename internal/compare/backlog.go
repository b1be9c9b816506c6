package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/slipway-build/slipway/queue"
)

const (
	servedClasses = 10
	// turnBuilds is how many builds are claimed before they are finished and replaced, so that the backlog stays as it is.
	turnBuilds = 100
)

// backlogSlots are for how many slots claims are made: for one that has become idle, and for a fleet that has.
var backlogSlots = []int{1, turnBuilds}

// A backlog is a database with builds that wait.
type backlog struct {
	*slipwaySide
	name    string
	db      *database
	claimer *claimer
}

// backlogRun is what one run has found for one backlog.
type backlogRun struct{ p50, p99, buffers float64 }

// runBacklog holds what claims cost with a long backlog against what they cost with a short one.
func runBacklog(ctx context.Context, b *bench) error {
	short, err := b.newBacklog(ctx, "short", b.sizes.shortBacklog, 0)
	if err != nil {
		return err
	}
	defer short.db.pool.Close()
	long, err := b.newBacklog(ctx, "long", b.sizes.longBacklog/10, b.sizes.longBacklog-b.sizes.longBacklog/10)
	if err != nil {
		return err
	}
	defer long.db.pool.Close()
	for _, slots := range backlogSlots {
		found := make(map[*backlog][]backlogRun)
		for run := range b.runs {
			turns := []*backlog{short, long}
			if run%2 == 1 {
				turns = []*backlog{long, short}
			}
			for _, l := range turns {
				r, err := l.measure(ctx, b, slots)
				if err != nil {
					return fmt.Errorf("%s backlog: %w", l.name, err)
				}
				found[l] = append(found[l], r)
				b.progress("run %d  claims of %d, %s backlog: p50 %s ms, p99 %s ms, %s pages a build",
					run+1, slots, l.name, number(r.p50), number(r.p99), number(r.buffers))
			}
		}
		if err := b.reportBacklog(slots, found[short], found[long]); err != nil {
			return err
		}
	}
	return nil
}

// newBacklog fills a database with builds that the session serves, spread over classes, and builds that it does not.
func (b *bench) newBacklog(ctx context.Context, name string, served, foreign int) (*backlog, error) {
	db, side, err := b.slipway(ctx, "backlog_"+name, queue.Options{})
	if err != nil {
		return nil, err
	}
	l := &backlog{slipwaySide: side, name: name, db: db}
	labels := queue.Labels{"class": "none"}
	if err := l.fill(ctx, foreign, func(int) queue.Labels { return labels }); err != nil {
		return nil, err
	}
	if err := l.fill(ctx, served, servedLabels); err != nil {
		return nil, err
	}
	// What was submitted before its class was known is queued, a bounded number at a time.
	for more := true; more; {
		done, err := l.queue.Maintain(ctx)
		if err != nil {
			return nil, err
		}
		more = done.More
	}
	all := make(queue.Labels)
	for i := range servedClasses {
		maps.Copy(all, servedLabels(i))
	}
	l.claimer, err = openClaimer(ctx, l.slipwaySide, all, slipwaySlots)
	return l, err
}

// servedLabels are of the class that the i-th build belongs to.
func servedLabels(i int) queue.Labels {
	return queue.Labels{fmt.Sprintf("class-%d", i%servedClasses): "served"}
}

// fill submits builds with labels.
func (l *backlog) fill(ctx context.Context, total int, labels func(i int) queue.Labels) error {
	for begin := 0; begin < total; begin += copySize {
		params := make([]queue.Params, min(copySize, total-begin))
		for i := range params {
			var err error
			if params[i], err = slipwayParams(newOrder(unnumbered)); err != nil {
				return err
			}
			params[i].Labels = labels(begin + i)
		}
		if _, err := l.queue.SubmitMany(ctx, params); err != nil {
			return err
		}
		if begin == 0 { // makes the classes, so that what follows is queued at once
			if _, err := l.queue.Maintain(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure claims builds for so many slots at a time.
func (l *backlog) measure(ctx context.Context, b *bench, slots int) (r backlogRun, err error) {
	if err := l.db.settle(ctx); err != nil {
		return r, err
	}
	var took []float64
	var builds int
	var buffers float64
	for len(took) < b.sizes.claims/min(slots, 10) {
		before, err := b.server.buffers(ctx, l.db.name)
		if err != nil {
			return r, err
		}
		ends, times, err := l.claim(ctx, slots)
		if err != nil {
			return r, err
		}
		after, err := b.server.buffers(ctx, l.db.name)
		if err != nil {
			return r, err
		}
		took, builds, buffers = append(took, times...), builds+len(ends), buffers+after-before
		if _, err := l.queue.FinishMany(ctx, ends); err != nil {
			return r, err
		}
		if err := l.fill(ctx, len(ends), servedLabels); err != nil {
			return r, err
		}
	}
	return backlogRun{p50: percentile(took, 50), p99: percentile(took, 99), buffers: buffers / float64(builds)}, nil
}

// claim claims the builds of a turn and returns how many milliseconds each claim took.
func (l *backlog) claim(ctx context.Context, slots int) (ends []queue.Completion, took []float64, err error) {
	for range turnBuilds / slots {
		begin := time.Now()
		offers, err := l.queue.Claim(ctx, []queue.Idle{{Session: l.claimer.session, Slots: slots}})
		if err != nil {
			return nil, nil, err
		}
		took = append(took, time.Since(begin).Seconds()*1e3)
		if len(offers) != slots {
			return nil, nil, fmt.Errorf("a claim for %d slots returned %d builds", slots, len(offers))
		}
		ends = append(ends, succeeded(offers, l.claimer.session)...)
	}
	return ends, took, nil
}

// buffers returns how many pages the server has touched so far for statements in a database.
func (s *server) buffers(ctx context.Context, name string) (float64, error) {
	var pages float64
	err := s.admin.QueryRow(ctx, `
		SELECT coalesce(sum(s.shared_blks_hit + s.shared_blks_read), 0)::float8
		FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = $1`, name).Scan(&pages)
	return pages, err
}

// reportBacklog compares run by run.
func (b *bench) reportBacklog(slots int, short, long []backlogRun) error {
	for _, v := range []struct {
		name, unit string
		of         func(backlogRun) float64
		limit      float64
	}{
		{"buffers", "pages touched per claimed build", func(r backlogRun) float64 { return r.buffers }, 1.1},
		{"p50", "ms per claim", func(r backlogRun) float64 { return r.p50 }, 1.25},
		{"p99", "ms per claim", func(r backlogRun) float64 { return r.p99 }, 2},
	} {
		var shorts, longs, ratios []float64
		for i := range short {
			s, l := v.of(short[i]), v.of(long[i])
			shorts, longs, ratios = append(shorts, s), append(longs, l), append(ratios, l/s)
		}
		name := fmt.Sprintf("backlog.%d.%s", slots, v.name)
		err := b.report.findings(
			finding{Figure: name + ".short", Unit: v.unit, Value: median(shorts), Runs: shorts},
			finding{Figure: name + ".long", Unit: v.unit, Value: median(longs), Runs: longs},
			finding{Figure: name + ".ratio", Unit: "long to short", Value: median(ratios), Limit: new(v.limit), Runs: ratios},
		)
		if err != nil {
			return err
		}
	}
	return nil
}
