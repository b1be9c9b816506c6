package pgqueue_test

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

func Example() {
	ctx := context.Background()
	pool, cleanup := connect(ctx) // pgxpool.New, with the URL of a server
	defer cleanup()

	backend, err := pgqueue.New(pool, &pgqueue.Options{Schema: "slipway_example"})
	if err != nil {
		log.Fatal(err)
	}
	if err := backend.Migrate(ctx); err != nil {
		log.Fatal(err)
	}

	q := queue.New(backend, nil)
	id, err := q.Submit(ctx, queue.Params{Project: "website", Spec: []byte("make test")})
	if err != nil {
		log.Fatal(err)
	}
	build, err := q.Get(ctx, "website", id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", build.State, build.Spec)
	// Output: pending: make test
}

// A build is submitted together with the row that asks for it: both are there, or neither.
func ExampleSubmit() {
	ctx := context.Background()
	pool, cleanup := connect(ctx)
	defer cleanup()
	backend, err := pgqueue.New(pool, &pgqueue.Options{Schema: "slipway_example"})
	if err != nil {
		log.Fatal(err)
	}
	if err := backend.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	q := queue.New(backend, nil)

	db := stdlib.OpenDBFromPool(pool) // the service's own access to its tables
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE TABLE slipway_example.release (version text PRIMARY KEY, build uuid NOT NULL)"); err != nil {
		log.Fatal(err)
	}

	release := func(version string) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		ids, err := pgqueue.Submit(ctx, q, tx, queue.Params{Project: "website", Spec: []byte("make release")})
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO slipway_example.release VALUES ($1, $2)", version, ids[0].String()); err != nil {
			return fmt.Errorf("version %s is there already", version)
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		q.Wake()
		return nil
	}
	fmt.Println(release("v1.0.0"))
	fmt.Println(release("v1.0.0"))
	builds, err := q.List(ctx, queue.Filter{Project: "website"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(builds), "build")
	// Output:
	// <nil>
	// version v1.0.0 is there already
	// 1 build
}

// A handler ends its build together with what it has led to: both are stored, or neither.
func ExampleFinish() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pool, cleanup := connect(ctx)
	defer cleanup()
	backend, err := pgqueue.New(pool, &pgqueue.Options{Schema: "slipway_example"})
	if err != nil {
		log.Fatal(err)
	}
	if err := backend.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	q := queue.New(backend, nil)
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE TABLE slipway_example.size (build uuid PRIMARY KEY, bytes bigint NOT NULL)"); err != nil {
		log.Fatal(err)
	}

	measure := func(ctx context.Context, job *queue.Job) error {
		end, err := job.Completion(ctx, queue.Succeeded, "")
		if err != nil {
			return err
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, "INSERT INTO slipway_example.size VALUES ($1, $2)", job.Build.String(), job.SpecSize); err != nil {
			return err
		}
		if done, err := pgqueue.Finish(ctx, q, tx, end); err != nil || len(done) == 0 {
			return cmp.Or(err, queue.ErrStaleLease)
		}
		return tx.Commit()
	}
	var worker sync.WaitGroup
	worker.Go(func() {
		if err := queue.NewWorker(q, "worker", nil).Run(ctx, measure); err != nil {
			log.Print(err)
		}
	})

	id, err := q.Submit(ctx, queue.Params{Project: "website", Spec: []byte("hello, world")})
	if err != nil {
		log.Fatal(err)
	}
	build, err := q.Wait(ctx, "website", id)
	if err != nil {
		log.Fatal(err)
	}
	var bytes int
	if err := db.QueryRowContext(ctx, "SELECT bytes FROM slipway_example.size WHERE build = $1", id.String()).Scan(&bytes); err != nil {
		log.Fatal(err)
	}
	fmt.Println(build.State, bytes)
	cancel()
	worker.Wait()
	// Output: succeeded 12
}

// An attempt is ended in a transaction of pgx that is rolled back, and then in one that is committed.
func ExampleFinishPgx() {
	ctx := context.Background()
	pool, cleanup := connect(ctx)
	defer cleanup()
	backend, err := pgqueue.New(pool, &pgqueue.Options{Schema: "slipway_example"})
	if err != nil {
		log.Fatal(err)
	}
	if err := backend.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	q := queue.New(backend, nil)
	attempt, err := running(ctx, q)
	if err != nil {
		log.Fatal(err)
	}
	for _, end := range []func(pgx.Tx) error{
		func(tx pgx.Tx) error { return tx.Rollback(ctx) },
		func(tx pgx.Tx) error { return tx.Commit(ctx) },
	} {
		tx, err := pool.Begin(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := pgqueue.FinishPgx(ctx, q, tx, queue.Completion{AttemptID: attempt, Outcome: queue.Failed}); err != nil {
			log.Fatal(err)
		}
		if err := end(tx); err != nil {
			log.Fatal(err)
		}
		build, err := q.Get(ctx, "website", attempt.Build)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(build.State)
	}
	// Whoever reports the attempt later gets the same answer.
	fmt.Println(q.Finish(ctx, queue.Completion{AttemptID: attempt, Outcome: queue.Succeeded}))
	// Output:
	// running
	// failed
	// failed <nil>
}

// running submits a build and claims it for a worker of this process.
func running(ctx context.Context, q *queue.Queue) (queue.AttemptID, error) {
	if _, err := q.Submit(ctx, queue.Params{Project: "website"}); err != nil {
		return queue.AttemptID{}, err
	}
	if _, err := q.Maintain(ctx); err != nil {
		return queue.AttemptID{}, err
	}
	session, err := q.OpenSession(ctx, queue.NewSession{
		Worker: "worker", Instance: "i", Pools: []string{queue.DefaultPool}, Slots: 1, Direct: true,
	})
	if err != nil {
		return queue.AttemptID{}, err
	}
	offers, err := q.Claim(ctx, []queue.Idle{{Session: session, Slots: 1}})
	if err != nil {
		return queue.AttemptID{}, err
	}
	return offers[0].AttemptID, nil
}

// connect returns a pool on the tests' server, or on a throw-away one, and what leaves nothing behind of the examples' schema.
func connect(ctx context.Context) (pool *pgxpool.Pool, cleanup func()) {
	url, stop := os.Getenv(testenv.EnvDatabaseURL), func() error { return nil }
	if url == "" {
		cluster, err := testenv.StartPostgres(ctx, nil)
		if err != nil {
			log.Fatal(err)
		}
		url, stop = cluster.URL(), cluster.Stop
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	return pool, func() {
		if _, err := pool.Exec(ctx, "DROP SCHEMA slipway_example CASCADE"); err != nil {
			log.Print(err)
		}
		pool.Close()
		if err := stop(); err != nil {
			log.Print(err)
		}
	}
}
