package sqlitequeue_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"

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

// openQueue makes a queue in a database of its own, which cleanup removes.
func openQueue(ctx context.Context) (q *queue.Queue, db *sql.DB, cleanup func()) {
	dir, err := os.MkdirTemp("", "slipway")
	if err != nil {
		log.Fatal(err)
	}
	db, err = sqlitequeue.Open(filepath.Join(dir, "service.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	backend, err := sqlitequeue.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := backend.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	return queue.New(backend, nil), db, func() {
		if err := errors.Join(db.Close(), os.RemoveAll(dir)); err != nil {
			log.Print(err)
		}
	}
}

// A build is submitted together with the row that asks for it: both are there, or neither.
func ExampleSubmit() {
	ctx := context.Background()
	q, db, cleanup := openQueue(ctx)
	defer cleanup()
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

// What a build has led to is stored together with its end: both are there, or neither, and the build is attempted again.
func ExampleFinish() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	q, db, cleanup := openQueue(ctx)
	defer cleanup()
	if _, err := db.ExecContext(ctx, "CREATE TABLE page (path TEXT PRIMARY KEY)"); err != nil {
		log.Fatal(err)
	}
	id, err := q.Submit(ctx, queue.Params{Project: "website", Spec: []byte("/index.html")})
	if err != nil {
		log.Fatal(err)
	}

	publish := func(ctx context.Context, job *queue.Job) error {
		// The log is stored first: while the transaction lasts, nothing else can be.
		end, err := job.Completion(ctx, queue.Succeeded, "published")
		if err != nil {
			return err
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, "INSERT INTO page VALUES (?)", string(job.Spec)); err != nil {
			return err
		}
		if done, err := sqlitequeue.Finish(ctx, q, tx, end); err != nil || len(done) == 0 {
			return cmp.Or(err, queue.ErrStaleLease)
		}
		return tx.Commit()
	}
	var worker sync.WaitGroup
	worker.Go(func() {
		if err := queue.NewWorker(q, "publisher", nil).Run(ctx, publish); err != nil {
			log.Print(err)
		}
	})
	build, err := q.Wait(ctx, "website", id)
	if err != nil {
		log.Fatal(err)
	}
	var path string
	if err := db.QueryRowContext(ctx, "SELECT path FROM page").Scan(&path); err != nil {
		log.Fatal(err)
	}
	fmt.Println(build.State, build.Reason, path)
	stop()
	worker.Wait()
	// Output: succeeded published /index.html
}
