package queue_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A slow backend takes a minute to store logs for the first time.
type slow struct {
	queue.Backend
	calls, storing atomic.Int32 // in all, and under way
}

func (b *slow) AppendLogs(
	ctx context.Context, chunks []queue.LogChunk, limit queue.LogLimit, now time.Time,
) ([]queue.LogLength, error) {
	b.storing.Add(1)
	defer b.storing.Add(-1)
	if b.calls.Add(1) == 1 {
		pass(time.Minute)
	}
	return b.Backend.AppendLogs(ctx, chunks, limit, now)
}

// TestCompletionWaitsForTheLog has a batch with a part of the log be under way: when Completion returns it is not any more, nor is any later
// one, and all that was written is stored.
func TestCompletionWaitsForTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slow{Backend: memqueue.New()}
		q := queue.New(b, quiet(func(o *queue.Options) { o.ControllerTTL = time.Hour }))
		_ = work(t, q, nil, func(ctx context.Context, job *queue.Job) error {
			_, err := io.WriteString(job.Log(), "begun, ")
			pass(10 * time.Second)
			if b.storing.Load() != 1 {
				t.Error("the batch is not under way: the test shows nothing")
			}
			_, more := io.WriteString(job.Log(), "done")
			end, failed := job.Completion(ctx, queue.Succeeded, "")
			if err := errors.Join(err, more, failed); err != nil {
				return err
			}
			for range 5 {
				if n, err := io.WriteString(job.Log(), "late"); n != 0 || !errors.Is(err, queue.ErrLogClosed) {
					t.Errorf("the log takes %d bytes, %v; want ErrLogClosed", n, err)
				}
				if n := b.storing.Load(); n != 0 {
					t.Errorf("%d batches are under way", n)
				}
				pass(time.Second)
			}
			log, err := q.ReadLog(ctx, job.Project, job.AttemptID, 0, 100)
			if err != nil || string(log.Data) != "begun, done" || end.LogLength != 11 {
				t.Errorf("log is %q, %v; the completion tells of %d bytes", log.Data, err, end.LogLength)
			}
			return nil
		}, func() { settle(t, q, submit(t, q, nil), queue.Succeeded) })
	})
}

// TestCompletionFails has the backend be away when the log is to be stored: it goes on, and the handler may try again, as often as its
// transaction needs.
func TestCompletionFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &unreachable{Backend: memqueue.New()}
		q := queue.New(b, quiet(nil))
		var id queue.ID
		_ = work(t, q, nil, func(ctx context.Context, job *queue.Job) error {
			_, err := io.WriteString(job.Log(), "one, ")
			b.down.Store(true)
			if _, err := job.Completion(ctx, queue.Succeeded, ""); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("Completion returned %v", err)
			}
			_, more := io.WriteString(job.Log(), "two")
			b.down.Store(false)
			if err := errors.Join(err, more); err != nil {
				t.Error(err)
			}
			for range 2 {
				if end, err := job.Completion(ctx, queue.Succeeded, ""); err != nil || end.LogLength != 8 {
					t.Errorf("Completion returned %+v, %v", end, err)
				}
			}
			if _, err := io.WriteString(job.Log(), "late"); !errors.Is(err, queue.ErrLogClosed) {
				t.Errorf("the log takes more, %v", err)
			}
			return errors.New("the transaction failed")
		}, func() {
			id = submit(t, q, nil)
			settle(t, q, id, queue.Failed)
		})
		attempts, err := q.Attempts(t.Context(), "p", id)
		if err != nil || len(attempts) != 1 || !attempts[0].LogComplete || attempts[0].LogLength != 8 {
			t.Errorf("attempts are %+v, %v", attempts, err)
		}
		log, err := q.ReadLog(t.Context(), "p", queue.AttemptID{Build: id}, 0, 100)
		if err != nil || string(log.Data) != "one, two" || !log.Closed {
			t.Errorf("log is %+v, %v", log, err)
		}
	})
}
