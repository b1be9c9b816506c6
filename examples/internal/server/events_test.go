package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/server"
	"github.com/slipway-build/slipway/queue"
)

// An eventReader reads server-sent events as a browser does.
type eventReader struct {
	f       *fixture
	resp    *http.Response
	lines   *bufio.Scanner
	lastID  string
	comment int
}

// events asks for the events after one.
func (f *fixture) events(ctx context.Context, target, last string) *eventReader {
	f.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+target, nil)
	f.check(err)
	req.Header.Set("Authorization", "Bearer "+f.secrets[viewer])
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := f.client.Do(req) //nolint:bodyclose // whoever reads the events does
	f.check(err)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		f.Errorf("%s after %q: %s, %v", target, last, resp.Status, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return &eventReader{f: f, resp: resp, lines: lines, lastID: last}
}

// next returns an event as text, and an empty one at the end.
func (e *eventReader) next() string {
	var name, data string
	for e.lines.Scan() {
		field, value, _ := strings.Cut(e.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "id":
			e.lastID = value
		case field == "event":
			name = value
		case field == "data":
			data = value
		case field == "" && name == "log":
			var p api.LogPiece
			e.f.check(json.Unmarshal([]byte(data), &p))
			if p.Cut {
				return fmt.Sprintf("%d@%d cut", p.Offset, p.Epoch)
			}
			return fmt.Sprintf("%d@%d %s", p.Offset, p.Epoch, p.Data)
		case field == "" && name != "":
			return name + " " + data
		case e.lines.Text() == ":":
			e.comment++
		}
	}
	return ""
}

// want checks the events that follow, the id after them, and leaves.
func (e *eventReader) want(lastID string, events ...string) {
	e.f.Helper()
	defer e.resp.Body.Close()
	for _, want := range events {
		if got := e.next(); got != want {
			e.f.Errorf("got %q, want %q", got, want)
		}
	}
	if e.lastID != lastID {
		e.f.Errorf("the last id is %q, want %q", e.lastID, lastID)
	}
}

// A log arrives as events, and goes on behind the last of them on any controller.
func TestLogEvents(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	target := "/v1/builds/" + build.ID.String() + "/log/events"
	waiting := f.events(t.Context(), target, "") // for the first attempt
	first := f.start(build.ID)
	f.appendLog(first, 0, "one\r\n\x00\xff")
	waiting.want("7@1", "0@1 one\r\n\x00\xff")
	f.events(t.Context(), target+"?epoch=1", "").want("7", "0@1 one\r\n\x00\xff")
	f.events(t.Context(), target+"?epoch=1&offset=1", "3").want("7", "3@1 \r\n\x00\xff")
	f.events(t.Context(), target+"?offset=2", "").want("7@1", "2@1 e\r\n\x00\xff")
	f.finish(first, queue.Lost)
	f.events(t.Context(), target+"?epoch=1", "7").want("end", `end {"state":"pending"}`)

	going := f.events(t.Context(), target, "5@1") // it broke in the first attempt, and goes on into what follows
	f.want(f.call(submitter, "POST", "/v1/builds/"+build.ID.String()+"/cancel", nil), http.StatusOK, nil)
	going.want("end", "5@1 \x00\xff", `end {"state":"canceled"}`, "")

	r := f.call(viewer, "GET", target, nil, "Last-Event-ID", "end")
	f.want(r, http.StatusNoContent, nil)
	for _, bad := range []string{"-1", "x", "1@", "1@0", "1@-1", "1@x", "9223372036854775808", "7@2@1"} {
		r := f.call(viewer, "GET", target, nil, "Last-Event-ID", bad)
		f.wantProblem(r, http.StatusBadRequest, "invalid")
	}
	f.wantProblem(f.call(viewer, "GET", target+"?epoch=1", nil, "Last-Event-ID", "3@2"), http.StatusBadRequest, "invalid")
	for _, missing := range []string{target + "?epoch=9", "/v1/builds/" + queue.NewID().String() + "/log/events"} {
		f.wantProblem(f.call(viewer, "GET", missing, nil), http.StatusNotFound, "not_found")
	}
	f.wantProblem(f.call(viewer, "GET", target, nil, "Last-Event-ID", "0@9"), http.StatusNotFound, "not_found")
}

// A long log comes in pieces, and can be taken up after each.
func TestLogEventsArePieces(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	target := "/v1/builds/" + build.ID.String() + "/log/events"
	id := f.start(build.ID)
	text := strings.Repeat("0123456789abcdef", 10_000)
	f.appendLog(id, 0, text)
	f.finish(id, queue.Succeeded)
	var got strings.Builder
	last := ""
	for pieces := 0; last != "end"; pieces++ {
		if pieces > 10 {
			t.Fatalf("no end after %d pieces, at %s", pieces, last)
		}
		e := f.events(t.Context(), target, last)
		event := e.next()
		e.resp.Body.Close()
		last = e.lastID
		_, data, _ := strings.Cut(event, " ")
		if last != "end" {
			got.WriteString(data)
		}
	}
	if got.String() != text {
		t.Errorf("got %d bytes, or others; want %d", got.Len(), len(text))
	}
}

// A quiet stream says that it is alive, and ends when the server drains, to be taken up elsewhere.
func TestLogEventsDrain(t *testing.T) {
	f := newFixture(t, &server.Options{LogBeat: 5 * time.Millisecond})
	build := f.submit()
	target := "/v1/builds/" + build.ID.String() + "/log/events"
	f.appendLog(f.start(build.ID), 0, "text")
	e := f.events(t.Context(), target, "")
	defer e.resp.Body.Close()
	if got := e.next(); got != "0@1 text" {
		t.Errorf("got %q", got)
	}
	for e.lines.Text() != ":" {
		if !e.lines.Scan() {
			t.Fatalf("the stream ends: %v", e.lines.Err())
		}
	}
	f.server.Drain()
	if got := e.next(); got != "" || e.lastID != "4@1" || e.lines.Err() != nil {
		t.Errorf("the drain ends the stream with %q, id %s, %v", got, e.lastID, e.lines.Err())
	}
}

// A thousand streams that come and go leave nothing behind.
func TestLogEventsFreeEverything(t *testing.T) {
	const atOnce, many = 50, 1000
	f := newFixture(t, nil)
	build := f.submit()
	target := "/v1/builds/" + build.ID.String() + "/log/events"
	f.appendLog(f.start(build.ID), 0, "text")
	f.client.CloseIdleConnections()
	before := runtime.NumGoroutine()
	var readers sync.WaitGroup
	for range atOnce {
		readers.Go(func() {
			for range many / atOnce {
				f.events(t.Context(), target, "").want("4@1", "0@1 text")
			}
		})
	}
	readers.Wait()
	f.eventually("nobody streams", func() bool {
		f.client.CloseIdleConnections()
		return runtime.NumGoroutine() <= before
	})
	if strings.Contains(f.log.String(), "request failed") {
		t.Error("a reader who went away is logged as a failure")
	}
}

// There are so many streams at a time, and who goes makes room.
func TestLogEventsAreBounded(t *testing.T) {
	const most = 5
	f := newFixture(t, &server.Options{MaxLogStreams: most})
	target := "/v1/builds/" + f.submit().ID.String() + "/log/events"
	var open []*eventReader
	for range most {
		e := f.events(t.Context(), target, "")
		defer e.resp.Body.Close()
		open = append(open, e)
	}
	for range 2 * most { // a refusal takes no place
		r := f.call(viewer, "GET", target, nil)
		f.wantProblem(r, http.StatusServiceUnavailable, "unavailable")
		if r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	open[0].resp.Body.Close()
	f.eventually("a place is free", func() bool { return f.call(viewer, "GET", target, nil).StatusCode == http.StatusOK })
}
