package examples_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/sqlauth"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/keyauth"
	"github.com/slipway-build/slipway/worker/storeblobs"
)

// The body of this example is in the README, and TestReadme sees that it is the same.
func Example() {
	dir := must(os.MkdirTemp("", "slipway-"))
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	db := must(sqlitequeue.Open(filepath.Join(dir, "service.db"), nil))
	defer db.Close()
	backend := must(sqlitequeue.New(db, nil)) // or pgqueue.New with your *pgxpool.Pool
	check(backend.Migrate(ctx))
	q := queue.New(backend, nil)

	// The release and its build are stored together, or neither is. The form of a spec is its executor's: here that of procexec.
	tx := must(db.BeginTx(ctx, nil))
	must(tx.ExecContext(ctx, "CREATE TABLE release (tag TEXT)"))
	must(tx.ExecContext(ctx, "INSERT INTO release (tag) VALUES ('v1.2.0')"))
	ids := must(sqlitequeue.Submit(ctx, q, tx, queue.Params{
		Project: "web", Labels: queue.Labels{"os": "linux"}, Spec: []byte(`{"command": ["make", "dist"]}`),
	}))
	check(tx.Commit())
	q.Wake() // what Submit does by itself where the transaction is its own

	// Agents connect to the hub with worker keys, from wherever they are.
	keyring := must(sqlauth.NewSQLite(db, nil))
	check(keyring.Migrate(ctx))
	keys := must(auth.New(keyring, nil))
	store := storage.New(must(filestore.New(filepath.Join(dir, "blobs"), nil)), nil)
	hub := must(worker.NewHub(q, storeblobs.New(store), keyauth.New(keys), nil))
	var running sync.WaitGroup
	running.Go(func() { check(hub.Run(ctx)) })
	mux := http.NewServeMux()
	mux.Handle("/v1/worker/", hub) // beside your own routes, for http.ListenAndServe
	_, secret, err := keys.Create(ctx, auth.NewKey{
		Name: "the first builder", Role: auth.Worker, Worker: "builder-1", Pools: []string{"default"},
	})
	check(err)
	_ = secret.Reveal() // what "agent -name builder-1" is given; it is stored nowhere

	build := must(q.Get(ctx, "web", ids[0]))
	fmt.Println(build.State, build.Labels)

	stop() // connections end, and builds go on until another hub takes over
	running.Wait()
	// Output: pending os=linux
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func TestReadme(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	source := read("readme_test.go")
	_, body, ok := strings.Cut(source, "\tctx, stop := ")
	body, _, ended := strings.Cut(body, "\t// Output:")
	if !ok || !ended {
		t.Fatal("the example has lost its beginning or its end")
	}
	body = strings.ReplaceAll("\n\tctx, stop := "+body, "\n\t", "\n")
	if !strings.Contains(read("../README.md"), body) {
		t.Errorf("the README does not show this:\n%s", body)
	}
}
