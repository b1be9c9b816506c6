package storelogs_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/queue/storelogs"
	"github.com/slipway-build/slipway/storage/memstore"
)

// Logs of builds that have ended move to the storage, and are read as before.
func Example() {
	logs := memstore.New() // or filestore.New(dir, nil), with a directory that is for logs alone
	q := queue.New(memqueue.New(), &queue.Options{Archive: storelogs.New(logs)})

	var running sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	running.Go(func() {
		_ = queue.NewWorker(q, "worker", nil).Run(ctx, func(_ context.Context, job *queue.Job) error {
			_, err := fmt.Fprintln(job.Log(), "all tests passed")
			return err
		})
	})
	id, err := q.Submit(ctx, queue.Params{Project: "site"})
	if err == nil {
		_, err = q.Wait(ctx, "site", id)
	}
	stop()
	running.Wait()

	ctx, stop = context.WithCancel(context.Background())
	running.Go(func() { _ = q.Run(ctx) })
	var page queue.LogPage
	for look := time.NewTicker(time.Millisecond); err == nil && !page.Archived; <-look.C {
		page, err = q.ReadLog(ctx, "site", queue.AttemptID{Build: id}, 4, 100)
	}
	fmt.Printf("%q %v\n", page.Data, err)
	stop()
	running.Wait()
	// Output: "tests passed\n" <nil>
}
