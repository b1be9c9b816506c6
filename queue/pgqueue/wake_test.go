package pgqueue_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/faultconn"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// A listener is a call of Listen.
type listener struct {
	t      *testing.T
	hints  chan queue.Hint
	result chan error
	stop   context.CancelFunc
}

// listen begins to listen, and waits until b does.
func listen(t *testing.T, b *pgqueue.Backend) *listener {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &listener{t: t, hints: make(chan queue.Hint, 100), result: make(chan error, 1), stop: stop}
	var call sync.WaitGroup
	call.Go(func() { l.result <- b.Listen(ctx, func(h queue.Hint) { l.hints <- h }) })
	t.Cleanup(call.Wait)
	t.Cleanup(stop)
	if h := l.next(); !reflect.DeepEqual(h, queue.Hint{Any: true}) {
		t.Fatalf("the first hint is %+v, want Any", h)
	}
	return l
}

func (l *listener) next() queue.Hint {
	l.t.Helper()
	select {
	case h := <-l.hints:
		return h
	case err := <-l.result:
		l.t.Fatalf("Listen ended: %v", err)
	case <-time.After(patience):
		l.t.Fatal("no hint arrived")
	}
	return queue.Hint{}
}

func (l *listener) ended() error {
	l.t.Helper()
	select {
	case err := <-l.result:
		return err
	case <-time.After(patience):
		l.t.Fatal("Listen goes on")
		return nil
	}
}

func notify(t *testing.T, b *pgqueue.Backend, h queue.Hint) {
	t.Helper()
	if err := b.Notify(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

func TestHintsReachAllBackendsOfTheSchema(t *testing.T) {
	first, db := open(t)
	second := backend(t, db.Open(t, nil), &pgqueue.Options{Schema: db.Schema})
	other, _ := open(t)
	listeners, stranger := []*listener{listen(t, first), listen(t, second)}, listen(t, other)
	sent := []queue.Hint{
		{Heads: []queue.Head{{Class: 1, Rank: 5}}},
		{Changed: []queue.ID{queue.NewID()}, Cancel: true},
		{Waiting: true},
	}
	for i, h := range sent {
		notify(t, []*pgqueue.Backend{first, second}[i%2], h)
	}
	for _, l := range listeners {
		for _, want := range sent {
			if got := l.next(); !reflect.DeepEqual(got, want) {
				t.Errorf("heard %+v, want %+v", got, want)
			}
		}
	}
	// What is said on one channel last arrives last, and is the first that the other schema hears.
	notify(t, other, queue.Hint{Cancel: true})
	if got := stranger.next(); !reflect.DeepEqual(got, queue.Hint{Cancel: true}) {
		t.Errorf("another schema heard %+v", got)
	}
}

func TestHintOfMoreThanANotificationHolds(t *testing.T) {
	b, _ := open(t)
	l := listen(t, b)
	var h queue.Hint
	for range 1000 {
		h.Changed = append(h.Changed, queue.NewID())
	}
	notify(t, b, h)
	if got := l.next(); !got.Any {
		t.Error("a hint of 1,000 builds is not one of everything")
	}
}

// Foreign words on the channel are taken for a hint of everything.
func TestForeignNotification(t *testing.T) {
	_, db := open(t)
	pool := db.Open(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = db.Schema })
	l := listen(t, backend(t, pool, &pgqueue.Options{Schema: db.Schema}))
	const sql = `SELECT pg_notify(substr(query, 8), 'hello') FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN %'`
	if tag, err := db.Pool.Exec(t.Context(), sql, db.Schema); err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("notified %d channels, %v", tag.RowsAffected(), err)
	}
	if got := l.next(); !reflect.DeepEqual(got, queue.Hint{Any: true}) {
		t.Errorf("heard %+v", got)
	}
}

// The connection is closed on the way out, and the pool does without it.
func TestListenEndsWithItsContext(t *testing.T) {
	_, db := open(t)
	pool := db.Open(t, func(c *pgxpool.Config) {
		c.MaxConns = 1
		c.ConnConfig.RuntimeParams["application_name"] = db.Schema
	})
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema, Timeout: patience})
	l := listen(t, b)
	notify(t, b, queue.Hint{Cancel: true}) // by another connection of a pool of one
	l.next()
	l.stop()
	if err := l.ended(); !errors.Is(err, context.Canceled) {
		t.Errorf("Listen returned %v, want the end of its context", err)
	}
	if got := pool.Stat().AcquiredConns(); got != 0 {
		t.Errorf("%d connections are held", got)
	}
	eventually(t, "the connection that listened is gone", func() bool {
		var n int
		err := db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN%'", db.Schema).Scan(&n)
		return err == nil && n == 0
	})
}

func TestListenWithoutAConnection(t *testing.T) {
	_, db := open(t)
	pool := db.Open(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema, Timeout: 50 * time.Millisecond})
	taken, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Release()
	if err := b.Listen(t.Context(), func(queue.Hint) { t.Error("heard a hint") }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Listen without a connection: %v, want a deadline", err)
	}
}

// A quiet connection is asked for a sign of life, and goes on to be listened to.
func TestListenOutlastsSilence(t *testing.T) {
	_, db := open(t)
	const timeout = 200 * time.Millisecond
	b := backend(t, db.Open(t, nil), &pgqueue.Options{Schema: db.Schema, Timeout: timeout})
	l := listen(t, b)
	select {
	case h := <-l.hints:
		t.Errorf("heard %+v", h)
	case err := <-l.result:
		t.Fatalf("Listen ended: %v", err)
	case <-time.After(3 * timeout):
	}
	speaker := backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema})
	notify(t, speaker, queue.Hint{Cancel: true})
	if got := l.next(); !got.Cancel {
		t.Errorf("heard %+v", got)
	}
}

// A connection that passes nothing any more, without saying so, is noticed.
func TestListenOnADeadConnection(t *testing.T) {
	_, db := open(t)
	var dialer faultconn.Dialer
	pool := db.Open(t, func(c *pgxpool.Config) { c.ConnConfig.DialFunc = dialer.Dial })
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema, Timeout: 200 * time.Millisecond})
	l := listen(t, b)
	dialer.Break(faultconn.Fault{At: faultconn.Sent, Stall: true})
	err := l.ended()
	if !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Listen returned %v, want ErrUnavailable", err)
	}
	if !dialer.Mend() {
		t.Error("the connection was not used after it died")
	}
	listen(t, b)
}

func TestListenOnACutConnection(t *testing.T) {
	_, db := open(t)
	var dialer faultconn.Dialer
	pool := db.Open(t, func(c *pgxpool.Config) { c.ConnConfig.DialFunc = dialer.Dial })
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
	l := listen(t, b)
	dialer.Break(faultconn.Fault{At: faultconn.Received})
	notify(t, backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema}), queue.Hint{Cancel: true})
	if err := l.ended(); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Listen returned %v, want ErrUnavailable", err)
	}
	dialer.Mend()
}

// A server that goes away ends Listen; when it is back, so are the hints.
func TestListenWhileTheServerRestarts(t *testing.T) {
	cluster, err := testenv.StartPostgres(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Stop()
	pool, err := pgxpool.New(t.Context(), cluster.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	b := backend(t, pool, nil)
	l := listen(t, b)
	if err := cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := l.ended(); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Listen returned %v, want ErrUnavailable", err)
	}
	if err := b.Listen(t.Context(), func(queue.Hint) { t.Error("heard a hint") }); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Listen without a server returned %v, want ErrUnavailable", err)
	}
	if err := cluster.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	l = listen(t, b)
	eventually(t, "a hint is sent", func() bool { return b.Notify(t.Context(), queue.Hint{Cancel: true}) == nil })
	if got := l.next(); !got.Cancel {
		t.Errorf("heard %+v", got)
	}
}

// TestListenWithAHandlerOfTheEmbedders has pgx give notifications to somebody else.
func TestListenWithAHandlerOfTheEmbedders(t *testing.T) {
	_, db := open(t)
	pool := db.Open(t, func(c *pgxpool.Config) {
		c.ConnConfig.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {}
	})
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
	l := listen(t, b)
	notify(t, b, queue.Hint{Cancel: true})
	if got := l.next(); !got.Any {
		t.Errorf("heard %+v", got)
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it is not so that %s", what)
		}
	}
}
