package pgqueue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

var _ queue.Waker = (*Backend)(nil)

// notifySQL does not have the commit wait for the disk: a hint that a crash swallows would find nobody listening.
const notifySQL = `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)`

// Notify implements [queue.Waker]. It is a transaction of its own, because notifications of all transactions go through one lock of the
// server, which is held from before a commit until after it.
func (b *Backend) Notify(ctx context.Context, hint queue.Hint) error {
	_, err := b.change(ctx, notifySQL, b.channel(), encodeHint(hint))
	return err
}

// Listen implements [queue.Waker]. It takes a connection out of the pool for good, which may open another in its place, and closes it in
// the end. When nothing was heard for [Options].Timeout it asks the server for a sign of life, and waits as long for that.
func (b *Backend) Listen(ctx context.Context, wake func(queue.Hint)) error {
	conn, err := b.tuneIn(ctx)
	if err != nil {
		return explain(err)
	}
	defer b.hangUp(ctx, conn)
	for hint := everything; ; {
		wake(hint)
		if hint, err = b.hear(ctx, conn); err != nil {
			return explain(err)
		}
	}
}

// everything is what might have changed while nobody listened.
var everything = queue.Hint{Any: true}

// tuneIn returns a connection that listens. It is not the pool's any more.
func (b *Backend) tuneIn(ctx context.Context) (*pgx.Conn, error) {
	bounded, cancel := b.bounded(ctx)
	defer cancel()
	lent, err := b.pool.Acquire(bounded)
	if err != nil {
		return nil, err
	}
	conn := lent.Hijack()
	if _, err := conn.Exec(bounded, "LISTEN "+b.channel()); err != nil {
		b.hangUp(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// hangUp closes a connection, also when the end of ctx is the reason, and also when there is no one at its other end.
func (b *Backend) hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(b.timeout, time.Second))
	defer cancel()
	_ = conn.Close(ctx)
}

// hear waits for the next hint.
func (b *Backend) hear(ctx context.Context, conn *pgx.Conn) (queue.Hint, error) {
	for {
		quiet, cancel := b.bounded(ctx)
		n, err := conn.WaitForNotification(quiet)
		over := quiet.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return queue.Hint{}, ctx.Err()
		case err == nil && n == nil: // it went to a handler of the embedder's own
			return everything, nil
		case err == nil:
			return decodeHint(n.Payload), nil
		case !over:
			return queue.Hint{}, err
		}
		if err := b.ping(ctx, conn); err != nil {
			return queue.Hint{}, err
		}
	}
}

// ping asks for a sign of life. What is heard meanwhile is kept for the next hear.
func (b *Backend) ping(ctx context.Context, conn *pgx.Conn) error {
	bounded, cancel := b.bounded(ctx)
	defer cancel()
	err := conn.Ping(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return fmt.Errorf("%w: no sign of life for %v: %w", queue.ErrUnavailable, b.timeout, err)
	}
	return err
}

// channel is where hints about the schema go. Names of channels are as long as those of schemas may be, and are shared by all that use the
// database.
func (b *Backend) channel() string {
	sum := sha256.Sum256([]byte(b.schema))
	return "slipway_" + hex.EncodeToString(sum[:16])
}
