package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

var eventQuery = []parameter{
	{name: "epoch", doc: "Attempt. Default: the newest, and those after it.", least: 1, most: math.MaxInt32},
	{name: "offset", doc: "Where to begin, in bytes, unless there is a Last-Event-ID.", least: 0, most: math.MaxInt64},
}

var eventResponses = map[string]*huma.Response{
	"200":     {Description: "Success", Content: map[string]*huma.MediaType{"text/event-stream": {}}},
	"204":     {Description: "Nothing follows the event of that id"},
	"default": {Description: "Error"},
}

const (
	// headerLastEvent is where a client says how far it has come.
	headerLastEvent = "Last-Event-ID"
	// lastEvent is the id of the event "end", after which there is nothing.
	lastEvent = "end"
	// maxEvent is how many bytes of a log go into one event.
	maxEvent = 64 << 10
)

var errStreams = fmt.Errorf("%w: as many logs are streamed as may be", worker.ErrUnavailable)

// streamLog sends a log as server-sent events, and what is added to it until its end.
func (s *Server) streamLog(w http.ResponseWriter, r *http.Request) error {
	c := callerOf(r.Context())
	build, err := queue.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	e := events{
		queue: s.Queue, project: c.project, one: c.query["epoch"] != 0,
		id: queue.AttemptID{Build: build, Epoch: c.query["epoch"]}, offset: c.query["offset"],
	}
	last := r.Header.Get(headerLastEvent)
	if last == lastEvent {
		w.WriteHeader(http.StatusNoContent) // which keeps a browser from asking again
		return nil
	}
	if err := e.resume(last); err != nil {
		return err
	}
	if s.streams.Add(1); s.streams.Load() > int64(s.opts.MaxLogStreams) {
		s.streams.Add(-1)
		return errStreams
	}
	defer s.streams.Add(-1)
	if err := e.exists(r.Context()); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	paced := s.pacedWriter(w)
	defer paced.finish()
	e.out, e.flush = paced, paced.control.Flush
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer s.draining.cut(cancel)()
	e.send(ctx, cancel, s.opts.LogBeat)
	return nil
}

// Events are a log on its way to one client.
type events struct {
	queue   *queue.Queue
	project string
	id      queue.AttemptID // where to begin
	offset  int64
	one     bool // the client wants this attempt only

	mu    sync.Mutex
	out   io.Writer
	flush func() error
}

// resume goes where an event's id says: a byte offset, and the epoch if the client did not name one.
func (e *events) resume(last string) error {
	if last == "" {
		return nil
	}
	place, attempt, named := strings.Cut(last, "@")
	offset, err := strconv.ParseInt(place, 10, 64)
	epoch := e.id.Epoch
	if err == nil && named {
		epoch, err = strconv.ParseInt(attempt, 10, 64)
	}
	if err != nil || offset < 0 || epoch < 0 || epoch == 0 && named || e.one && epoch != e.id.Epoch {
		return invalid(headerLastEvent + ": must be the id of an event of this stream")
	}
	e.id.Epoch, e.offset = epoch, offset
	return nil
}

// exists looks whether there is anything to follow, as long as an error can be told.
func (e *events) exists(ctx context.Context) error {
	if e.id.Epoch != 0 {
		_, err := e.queue.ReadLog(ctx, e.project, e.id, e.offset, 1)
		return err
	}
	_, err := e.queue.Get(ctx, e.project, e.id.Build)
	return err
}

// send sends everything. It ends with the log, with the client, or with ctx; in the last case the client asks again, for what follows.
func (e *events) send(ctx context.Context, cancel func(), every time.Duration) {
	if e.write("retry: 1000\n\n") != nil {
		return
	}
	var beats sync.WaitGroup
	beats.Go(func() {
		defer cancel()
		e.beat(ctx, every)
	})
	defer beats.Wait()
	defer cancel()
	follow := e.queue.FollowLogs
	if e.one {
		follow = e.queue.FollowLog
	}
	for page, err := range follow(ctx, e.project, e.id, e.offset) {
		if err != nil || e.page(page) != nil {
			return
		}
	}
	if b, err := e.queue.Get(ctx, e.project, e.id.Build); err == nil {
		_ = e.event(lastEvent, "end", api.LogEnd{State: b.State.String()}) // a client that has gone needs no end
	}
}

// beat writes comments, by which either side sees that the other has gone.
func (e *events) beat(ctx context.Context, every time.Duration) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			if e.write(":\n\n") != nil {
				return
			}
		}
	}
}

// page sends a page of a log in pieces.
func (e *events) page(page queue.LogPage) error {
	for len(page.Data) > 0 {
		piece := page.Data[:min(len(page.Data), maxEvent)]
		next := page.Offset + int64(len(piece))
		if err := e.event(e.place(page.Epoch, next), "log", api.LogPiece{Epoch: page.Epoch, Offset: page.Offset, Data: piece}); err != nil {
			return err
		}
		page.Offset, page.Data = next, page.Data[len(piece):]
	}
	if page.Closed && page.Cut {
		return e.event(e.place(page.Epoch, page.Offset), "log", api.LogPiece{Epoch: page.Epoch, Offset: page.Offset, Data: []byte{}, Cut: true})
	}
	return nil
}

// place is the id of an event after which so much of an attempt's log has been sent.
func (e *events) place(epoch, offset int64) string {
	id := strconv.FormatInt(offset, 10)
	if !e.one {
		id += "@" + strconv.FormatInt(epoch, 10)
	}
	return id
}

func (e *events) event(id, name string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return e.write(fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", id, name, text))
}

// write sends what one event is made of.
func (e *events) write(text string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := io.WriteString(e.out, text)
	return errors.Join(err, e.flush())
}
