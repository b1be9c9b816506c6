package pgqueue_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/faultconn"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// TestEveryRequestOfACopyMayFail cuts the connection at each request of a SubmitCopy: all builds are there or none, and with the same ids it
// is made once.
func TestEveryRequestOfACopyMayFail(t *testing.T) {
	t.Parallel()
	b, db := open(t)
	store := newStore(t, db)
	var dialer faultconn.Dialer
	pool := db.Open(t, func(c *pgxpool.Config) {
		c.MaxConns = 1
		c.ConnConfig.DialFunc = dialer.Dial
		c.ConnConfig.RuntimeParams["application_name"] = db.Schema
	})
	faulty := queue.New(backend(t, pool, &pgqueue.Options{Schema: db.Schema}), nil)
	sound := queue.New(b, nil)
	for _, at := range []faultconn.Point{faultconn.Asked, faultconn.Answered} {
		dark := 0
		for n, struck := 0, true; struck; n++ {
			params := []queue.Params{{ID: queue.NewID(), Project: "project"}, {ID: queue.NewID(), Project: "project"}}
			dialer.Break(faultconn.Fault{At: at, N: n})
			_, err := pgqueue.SubmitCopy(t.Context(), faulty, params...)
			struck = dialer.Mend()
			pool.Reset()
			store.forgotten(t, db.Schema)
			if struck && !errors.Is(err, queue.ErrUnavailable) || !struck && err != nil {
				t.Errorf("fault %d at request %d has struck: %v, and it returned %v", at, n, struck, err)
			}
			before := stored(t, sound, params)
			if before != 0 && before != len(params) {
				t.Errorf("fault %d at request %d: %d of %d builds are there", at, n, before, len(params))
			}
			if err != nil && before > 0 {
				dark++
			}
			_, err = pgqueue.SubmitCopy(t.Context(), sound, params...)
			if again := errors.Is(err, queue.ErrConflict); again != (before > 0) || !again && err != nil {
				t.Errorf("fault %d at request %d: %d builds were there, and the next call returned %v", at, n, before, err)
			}
			if after := stored(t, sound, params); after != len(params) {
				t.Errorf("fault %d at request %d: in the end %d builds are there", at, n, after)
			}
		}
		if want := at == faultconn.Answered; want != (dark > 0) {
			t.Errorf("fault %d: the builds were there in spite of an error %d times", at, dark)
		}
	}
}

// stored counts the builds that are there.
func stored(t *testing.T, q *queue.Queue, params []queue.Params) (n int) {
	t.Helper()
	for _, p := range params {
		_, err := q.Get(t.Context(), p.Project, p.ID)
		if err == nil {
			n++
		} else if !errors.Is(err, queue.ErrNotFound) {
			t.Fatal(err)
		}
	}
	return n
}
