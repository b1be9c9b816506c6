package pgqueue_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

// claimerEnv makes the test binary claim instead of test: it holds the URL of the server and the schema.
const claimerEnv = "SLIPWAY_PGQUEUE_CLAIMER"

const (
	claimers   = 4  // processes
	perProcess = 25 // goroutines of each
	manyBuilds = 10_000
)

func TestMain(m *testing.M) {
	if where := os.Getenv(claimerEnv); where != "" {
		if err := claimAll(context.Background(), where); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestClaimExactlyOnce has 4 processes with 25 goroutines each claim what there is, as fast as they can.
func TestClaimExactlyOnce(t *testing.T) {
	b, db := open(t)
	submitClasses(t, b, manyBuilds)
	type claim struct {
		build   string
		epoch   int64
		session int64
	}
	var mu sync.Mutex
	claims := make(map[string]claim, manyBuilds)
	var ready, processes sync.WaitGroup
	ready.Add(claimers)
	for range claimers {
		processes.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), claimerEnv+"="+db.DSN+" "+db.Schema)
			cmd.Stderr = os.Stderr
			out, outErr := cmd.StdoutPipe()
			start, inErr := cmd.StdinPipe()
			err := cmp.Or(outErr, inErr)
			if err == nil {
				err = cmd.Start()
			}
			lines := bufio.NewScanner(out)
			if err == nil {
				lines.Scan()
			}
			ready.Done()
			ready.Wait()
			if err := errors.Join(err, start.Close()); err != nil {
				t.Error(err)
				return
			}
			mine := 0
			for ; lines.Scan(); mine++ {
				var c claim
				if _, err := fmt.Sscan(lines.Text(), &c.build, &c.epoch, &c.session); err != nil {
					t.Errorf("a claimer wrote %q: %v", lines.Text(), err)
				}
				mu.Lock()
				if other, twice := claims[c.build]; twice {
					t.Errorf("build %s was claimed by session %d and by session %d", c.build, other.session, c.session)
				}
				claims[c.build] = c
				mu.Unlock()
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("claimer: %v", err)
			}
			if mine == 0 {
				t.Error("one process got nothing: they did not compete")
			}
		})
	}
	processes.Wait()

	if len(claims) != manyBuilds {
		t.Errorf("%d builds were claimed, want %d", len(claims), manyBuilds)
	}
	rows, err := db.Pool.Query(t.Context(), "SELECT id::text, epoch, coalesce(session_id, 0) FROM "+db.Schema+".build")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var stored claim
		if err := rows.Scan(&stored.build, &stored.epoch, &stored.session); err != nil {
			t.Fatal(err)
		}
		if told := claims[stored.build]; told != stored || stored.epoch != 1 {
			t.Errorf("stored is %v, the claimer was told %v", stored, told)
		}
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
}

// submitClasses queues builds of five classes.
func submitClasses(t *testing.T, b *pgqueue.Backend, builds int) {
	t.Helper()
	all := make([]queue.NewBuild, builds)
	for i := range all {
		all[i] = queue.NewBuild{
			ID: queue.NewID(), Project: "project", Pool: fmt.Sprintf("pool%d", i%5), RunTimeout: time.Hour, MaxAttempts: 1,
		}
	}
	for _, batch := range [][]queue.NewBuild{all[:5], all[5:]} {
		if _, err := b.Submit(t.Context(), batch, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Maintain(t.Context(), queue.Rules{Limit: 10}, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
}

// claimAll claims until nothing is left, and prints what it got.
func claimAll(ctx context.Context, where string) error {
	dsn, schema, _ := strings.Cut(where, " ")
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return err
	}
	config.MaxConns = perProcess
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	b, err := pgqueue.New(pool, &pgqueue.Options{Schema: schema, Timeout: time.Minute})
	if err != nil {
		return err
	}
	if err := pool.Ping(ctx); err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil { // until all are
		return err
	}
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	var group errgroup.Group
	for range perProcess {
		group.Go(func() error {
			return claimMany(ctx, b, func(c queue.Claimed) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintln(out, c.Build, c.Epoch, c.Session)
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return out.Flush()
}

// claimMany claims in one session until nothing is left.
func claimMany(ctx context.Context, b *pgqueue.Backend, got func(queue.Claimed)) error {
	var now time.Time
	session, err := queuetest.Open(ctx, b, queue.NewSession{
		Controller: queue.NewID(), Worker: queue.NewID().String(), Instance: "i", Pools: []string{"p"}, Slots: 8,
	}, now)
	if err != nil {
		return err
	}
	classes, err := b.Classes(ctx, 0, 100)
	if err != nil {
		return err
	}
	reaches := make([]queue.Reach, len(classes))
	for i, c := range classes {
		reaches[i] = queue.Reach{Class: c.ID, Floor: queue.NoFloor}
	}
	for {
		heads, err := b.Probe(ctx, reaches, 8)
		if err != nil || len(heads) == 0 {
			return err
		}
		var demand []queue.Demand
		for _, h := range heads {
			d := queue.Demand{Reach: queue.Reach{Class: h.Class, Floor: queue.NoFloor}}
			for range 1 + rand.IntN(4) {
				d.Slots = append(d.Slots, session)
			}
			demand = append(demand, d)
		}
		claimed, err := b.Claim(ctx, demand, time.Hour, now)
		if err != nil {
			return err
		}
		for _, c := range claimed {
			got(c)
		}
	}
}
