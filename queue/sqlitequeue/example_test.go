package sqlitequeue_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "slipway")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	db, err := sqlitequeue.Open(filepath.Join(dir, "queue.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	backend, err := sqlitequeue.New(db, nil)
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
	dir, err := os.MkdirTemp("", "slipway")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlitequeue.Open(filepath.Join(dir, "service.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	backend, err := sqlitequeue.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := backend.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	q := queue.New(backend, nil)
	if _, err := db.ExecContext(ctx, "CREATE TABLE release (version TEXT PRIMARY KEY, build TEXT NOT NULL)"); err != nil {
		log.Fatal(err)
	}

	release := func(version string) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		ids, err := sqlitequeue.Submit(ctx, q, tx, queue.Params{Project: "website", Spec: []byte("make release")})
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO release VALUES (?, ?)", version, ids[0].String()); err != nil {
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
