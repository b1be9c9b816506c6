package server

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

var logQuery = []parameter{
	{name: "epoch", doc: "Attempt. Default: the newest.", least: 1, most: math.MaxInt32},
	{name: "offset", doc: "Where to begin, in bytes.", least: 0, most: math.MaxInt64},
	{name: "limit", doc: "Largest number of bytes.", least: 1, most: queue.MaxLogRead, value: 256 << 10},
	{name: "wait_ms", doc: "How long to wait for bytes if there are none, in milliseconds.", least: 0, most: 30_000},
}

// readLog sends a piece of a log. Asked to wait, it does so until there are bytes, or something else to say.
func (s *Server) readLog(w http.ResponseWriter, r *http.Request) error {
	build, err := queue.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	c := callerOf(r.Context())
	reader := logReader{
		queue: s.Queue, project: c.project, id: queue.AttemptID{Build: build, Epoch: c.query["epoch"]},
		offset: c.query["offset"], limit: int(c.query["limit"]),
	}
	wait := min(time.Duration(c.query["wait_ms"])*time.Millisecond, s.opts.MaxLogWait)
	page, err := reader.await(r.Context(), wait, &s.draining)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set(api.LogEpoch, strconv.FormatInt(page.Epoch, 10))
	h.Set(api.LogOffset, strconv.FormatInt(reader.offset, 10))
	h.Set(api.LogLength, strconv.FormatInt(page.Length, 10))
	h.Set(api.LogCut, strconv.FormatBool(page.Cut))
	h.Set(api.LogClosed, strconv.FormatBool(page.Closed))
	h.Set("Content-Length", strconv.Itoa(len(page.Data)))
	paced := s.pacedWriter(w)
	defer paced.finish()
	_, _ = paced.Write(page.Data) // a client that has gone needs no answer
	return nil
}

// A logReader reads one attempt's log or, without an epoch, that of whatever attempt is the newest.
type logReader struct {
	queue   *queue.Queue
	project string
	id      queue.AttemptID
	offset  int64
	limit   int
}

// await reads until there is something to tell, or the wait is over, which [Server.Drain] may end.
func (l *logReader) await(ctx context.Context, wait time.Duration, drained *drain) (queue.LogPage, error) {
	first, err := l.read(ctx)
	if err != nil || wait == 0 || l.news(first) {
		return first, err
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer drained.cut(cancel)()
	follow := l.queue.FollowLogs
	if l.id.Epoch != 0 {
		follow = l.queue.FollowLog
	}
	for page, err := range follow(waiting, l.project, l.id, l.offset) {
		if err != nil || page.Epoch != first.Epoch {
			break
		}
		if n := len(page.Data); n > 0 {
			page.Data = page.Data[:min(n, l.limit)]
			return page, nil
		}
	}
	return l.read(ctx)
}

// news reports whether a page is worth an answer at once. An offset beyond the end is one of another attempt.
func (l *logReader) news(page queue.LogPage) bool {
	return len(page.Data) > 0 || page.Closed || l.offset > page.Length
}

// read returns what is there. A build that has not been attempted has an empty log; without an epoch a log is closed only when its
// build has ended, since another attempt may follow.
func (l *logReader) read(ctx context.Context) (queue.LogPage, error) {
	page, err := l.queue.ReadLog(ctx, l.project, l.id, l.offset, l.limit)
	if l.id.Epoch != 0 || err == nil && !page.Closed || err != nil && !isNotFound(err) {
		return page, err
	}
	build, buildErr := l.queue.Get(ctx, l.project, l.id.Build)
	switch {
	case buildErr != nil:
		return queue.LogPage{}, buildErr
	case err != nil && build.AttemptsUsed > 0: // it has been accepted meanwhile
		return l.queue.ReadLog(ctx, l.project, l.id, l.offset, l.limit)
	}
	page.Closed = build.State.Terminal()
	return page, nil
}

func isNotFound(err error) bool { return errors.Is(err, queue.ErrNotFound) }
