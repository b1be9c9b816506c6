package pgqueue_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// A service that uses pgx itself submits in its own transactions.
func ExampleSubmitPgx() {
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

	// Of two deliveries of one event, the key lets the first add a build.
	deliver := func(event string) (ids []queue.ID, err error) {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			ids, err = pgqueue.SubmitPgx(ctx, q, tx, queue.Params{Project: "website", Spec: []byte("make"), IdempotencyKey: event})
			return err
		})
		if err == nil {
			q.Wake()
		}
		return ids, err
	}
	first, err := deliver("push 1")
	if err != nil {
		log.Fatal(err)
	}
	again, err := deliver("push 1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first[0] == again[0])
	// Output: true
}

// A matrix of builds is submitted at once.
func ExampleSubmitCopy() {
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

	var matrix []queue.Params
	for _, os := range []string{"linux", "darwin"} {
		for n := range 500 {
			matrix = append(matrix, queue.Params{
				Project: "website", Labels: queue.Labels{"os": os}, Spec: fmt.Appendf(nil, "go test -run Shard%d", n),
			})
		}
	}
	ids, err := pgqueue.SubmitCopy(ctx, q, matrix...)
	if err != nil {
		log.Fatal(err)
	}
	build, err := q.Get(ctx, "website", ids[999])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s on %v\n", build.Spec, build.Labels)
	// Output: go test -run Shard499 on os=darwin
}

// Builds are copied in the transaction that notes what they are for.
func ExampleSubmitCopyPgx() {
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
	if _, err := pool.Exec(ctx, "CREATE TABLE slipway_example.campaign (name text PRIMARY KEY, builds integer)"); err != nil {
		log.Fatal(err)
	}

	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		ids, err := pgqueue.SubmitCopyPgx(ctx, q, tx, make1000("website")...)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO slipway_example.campaign VALUES ('nightly', $1)", len(ids))
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	q.Wake()
	var builds int
	if err := pool.QueryRow(ctx, "SELECT builds FROM slipway_example.campaign").Scan(&builds); err != nil {
		log.Fatal(err)
	}
	fmt.Println(builds)
	// Output: 1000
}

func make1000(project string) []queue.Params {
	params := make([]queue.Params, 1000)
	for i := range params {
		params[i] = queue.Params{Project: project}
	}
	return params
}
