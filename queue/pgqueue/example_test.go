package pgqueue_test

import (
	"context"
	"fmt"
	"log"
	"os"

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
