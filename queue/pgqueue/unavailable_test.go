package pgqueue_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// A server that is not there is not the caller's fault, nor an unknown one.
func TestServerIsAway(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "host="+t.TempDir()+" user=nobody dbname=nowhere")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	b, err := pgqueue.New(pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	q := queue.New(b, nil)
	if _, err := q.Submit(t.Context(), queue.Params{Project: "site"}); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Submit: %v, want ErrUnavailable", err)
	}
	if _, err := q.Get(t.Context(), "site", queue.NewID()); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Get: %v, want ErrUnavailable", err)
	}
	if _, err := q.Maintain(t.Context()); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Maintain: %v, want ErrUnavailable", err)
	}
}
