package server_test

import (
	"context"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/server"
	"github.com/slipway-build/slipway/queue"
)

// wantLog checks a piece of a log: its epoch, the stored length, and whether it is closed.
func (f *fixture) wantLog(r *reply, data string, epoch, length int64, closed bool) {
	f.Helper()
	f.want(r, http.StatusOK, nil)
	got := []string{string(r.body), r.Header.Get(api.LogEpoch), r.Header.Get(api.LogLength), r.Header.Get(api.LogClosed)}
	want := []string{data, strconv.FormatInt(epoch, 10), strconv.FormatInt(length, 10), strconv.FormatBool(closed)}
	for i := range want {
		if got[i] != want[i] {
			f.Errorf("%s: got %q, want %q", r.Request.URL, got, want)
			break
		}
	}
	if r.Header.Get("Content-Type") != "application/octet-stream" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
		f.Errorf("headers: %v", r.Header)
	}
}

func TestReadLog(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	target := "/v1/builds/" + build.ID.String() + "/log"
	f.wantLog(f.call(viewer, "GET", target, nil), "", 0, 0, false) // not attempted
	id := f.start(build.ID)
	f.wantLog(f.call(viewer, "GET", target, nil), "", 1, 0, false)
	f.appendLog(id, 0, "hello, \x00\xffworld")
	f.wantLog(f.call(viewer, "GET", target, nil), "hello, \x00\xffworld", 1, 14, false)
	r := f.call(viewer, "GET", target+"?offset=7&limit=4", nil)
	f.wantLog(r, "\x00\xffwo", 1, 14, false)
	if r.Header.Get(api.LogOffset) != "7" {
		t.Errorf("%s: %s", api.LogOffset, r.Header.Get(api.LogOffset))
	}
	f.wantLog(f.call(viewer, "GET", target+"?offset=14", nil), "", 1, 14, false)
	f.wantLog(f.call(viewer, "GET", target+"?offset=9999999999", nil), "", 1, 14, false)
	f.finish(id, queue.Succeeded)
	f.wantLog(f.call(viewer, "GET", target+"?epoch=1", nil), "hello, \x00\xffworld", 1, 14, true)
	f.wantLog(f.call(viewer, "GET", target+"?offset=14&wait_ms=30000", nil), "", 1, 14, true) // nothing to wait for
}

// TestLogOfRetriedBuild: an attempt's log is closed when the attempt ends, a build's when the build does.
func TestLogOfRetriedBuild(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	target := "/v1/builds/" + build.ID.String() + "/log"
	first := f.start(build.ID)
	f.appendLog(first, 0, "first")
	f.finish(first, queue.Lost)
	f.wantLog(f.call(viewer, "GET", target+"?epoch=1", nil), "first", 1, 5, true)
	f.wantLog(f.call(viewer, "GET", target, nil), "first", 1, 5, false)
	f.want(f.call(submitter, "POST", "/v1/builds/"+build.ID.String()+"/cancel", nil), http.StatusOK, nil)
	f.wantLog(f.call(viewer, "GET", target, nil), "first", 1, 5, true)

	never := f.submit()
	f.want(f.call(submitter, "POST", "/v1/builds/"+never.ID.String()+"/cancel", nil), http.StatusOK, nil)
	f.wantLog(f.call(viewer, "GET", "/v1/builds/"+never.ID.String()+"/log?wait_ms=30000", nil), "", 0, 0, true)
}

// later starts a request and returns its reply when it comes; it returns once the request waits for the log.
func (f *fixture) later(target string) <-chan *reply {
	f.Helper()
	replies := make(chan *reply, 1)
	looks := f.queueBackend.looks.Load()
	go func() {
		r, err := f.try(viewer, "GET", target, nil)
		if err != nil {
			f.Error(err)
			r = &reply{Response: &http.Response{}}
		}
		replies <- r
	}()
	f.eventually("the request waits", func() bool { return f.queueBackend.looks.Load() >= looks+3 })
	return replies
}

func TestLogWait(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	target := "/v1/builds/" + build.ID.String() + "/log?wait_ms=30000"

	waiting := f.later(target) // for the first attempt
	id := f.start(build.ID)
	f.appendLog(id, 0, "first")
	f.wantLog(<-waiting, "first", 1, 5, false)

	waiting = f.later(target + "&epoch=1&offset=5&limit=2") // for bytes
	f.appendLog(id, 5, "second")
	f.wantLog(<-waiting, "se", 1, 11, false)

	waiting = f.later(target + "&offset=11") // for the end of the build
	ending := f.later(target + "&epoch=1&offset=11")
	f.finish(id, queue.Failed)
	f.wantLog(<-waiting, "", 1, 11, true)
	f.wantLog(<-ending, "", 1, 11, true)
}

func TestLogWaitEndsByItself(t *testing.T) {
	f := newFixture(t, nil)
	f.wantLog(f.call(viewer, "GET", "/v1/builds/"+f.submit().ID.String()+"/log?wait_ms=30", nil), "", 0, 0, false)
	limited := newFixture(t, &server.Options{MaxLogWait: 20 * time.Millisecond})
	limited.wantLog(limited.call(viewer, "GET", "/v1/builds/"+limited.submit().ID.String()+"/log?wait_ms=30000", nil), "", 0, 0, false)
}

func TestLogWaitEndsWithDrain(t *testing.T) {
	f := newFixture(t, nil)
	waiting := f.later("/v1/builds/" + f.submit().ID.String() + "/log?wait_ms=30000")
	f.server.Drain()
	select {
	case r := <-waiting:
		f.wantLog(r, "", 0, 0, false)
	case <-time.After(15 * time.Second):
		t.Error("the reader waits on")
		<-waiting
	}
}

// TestLogWaitFreesEverything: readers who go away leave nothing behind.
func TestLogWaitFreesEverything(t *testing.T) {
	f := newFixture(t, nil)
	target := f.url + "/v1/builds/" + f.submit().ID.String() + "/log?wait_ms=30000"
	f.client.CloseIdleConnections()
	before := runtime.NumGoroutine()
	ctx, leave := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	const many = 100
	looks := f.queueBackend.looks.Load()
	for range many {
		readers.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+f.secrets[viewer])
			if resp, err := f.client.Do(req); err == nil {
				resp.Body.Close()
				t.Errorf("an answer came: %s", resp.Status)
			}
		})
	}
	f.eventually("all wait", func() bool { return f.queueBackend.looks.Load() >= looks+3*many })
	leave()
	readers.Wait()
	f.client.CloseIdleConnections()
	f.eventually("all is free", func() bool { return runtime.NumGoroutine() <= before+2 })
	if strings.Contains(f.log.String(), "request failed") {
		t.Error("a reader who went away is logged as a failure")
	}
}
