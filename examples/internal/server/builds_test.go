package server_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

func TestSubmitAndGet(t *testing.T) {
	f := newFixture(t, nil)
	f.want(f.call(submitter, "PUT", "/v1/sources/"+someDigest, strings.NewReader("abc")), http.StatusCreated, nil)
	id := queue.NewID()
	submitted := api.NewBuild{
		ID: id.String(), Pool: "linux", Labels: map[string]string{"os": "linux"}, Spec: []byte("make all"), Source: &api.Source{SHA256: someDigest, Size: 3},
		QueueTimeoutMS: 60_000, RunTimeoutMS: 120_000, MaxAttempts: 5,
	}
	var created, got api.Build
	r := f.call(submitter, "POST", "/v1/builds", submitted)
	f.want(r, http.StatusCreated, &created)
	if location := r.Header.Get("Location"); location != "/v1/builds/"+id.String() {
		t.Errorf("Location: %s", location)
	}
	f.want(f.call(submitter, "GET", r.Header.Get("Location"), nil), http.StatusOK, &got)
	if got.ID != id || got.Project != "web" || got.Pool != "linux" || got.Labels["os"] != "linux" || got.State != "pending" ||
		!bytes.Equal(got.Spec, submitted.Spec) || *got.Source != *submitted.Source || got.Epoch != 0 || got.MaxAttempts != 5 ||
		got.RunTimeoutMS != 120_000 || got.QueueTimeoutMS != 60_000 || time.Since(got.CreatedAt).Abs() > time.Minute || got.StartedAt != nil {
		t.Errorf("got %+v", got)
	}
	if created.ID != id || created.Spec != nil {
		t.Errorf("created %+v", created)
	}
	// The same id again, by whoever.
	f.wantProblem(f.call(submitter, "POST", "/v1/builds", submitted), http.StatusConflict, "conflict")
	f.wantProblem(f.call(otherSubmitter, "POST", "/v1/builds", api.NewBuild{ID: id.String(), Spec: []byte("x")}), http.StatusConflict, "conflict")
	f.wantProblem(f.call(submitter, "GET", "/v1/builds/"+queue.NewID().String(), nil), http.StatusNotFound, "not_found")
}

func TestSubmitDefaults(t *testing.T) {
	f := newFixture(t, nil)
	var b api.Build
	f.want(f.call(admin, "POST", "/v1/builds", `{"spec":"eA=="}`), http.StatusCreated, &b)
	if b.Project != "default" || b.Pool != "default" || b.Labels == nil || b.RunTimeoutMS != time.Hour.Milliseconds() || b.MaxAttempts != 3 || b.Source != nil {
		t.Errorf("got %+v", b)
	}
	f.want(f.call(admin, "POST", "/v1/builds?project=web", `{"spec":"eA=="}`), http.StatusCreated, &b)
	if b.Project != "web" {
		t.Errorf("got project %s", b.Project)
	}
}

func TestSubmitRefuses(t *testing.T) {
	f := newFixture(t, nil)
	// The key names its pools.
	f.wantProblem(f.call(submitter, "POST", "/v1/builds", api.NewBuild{Spec: []byte("x"), Pool: "mac"}), http.StatusForbidden, "forbidden")
	f.want(f.call(otherSubmitter, "POST", "/v1/builds", api.NewBuild{Spec: []byte("x"), Pool: "mac"}), http.StatusCreated, nil)
	withSource := api.NewBuild{Spec: []byte("x"), Source: &api.Source{SHA256: someDigest, Size: 3}}
	f.wantProblem(f.call(submitter, "POST", "/v1/builds", withSource), http.StatusUnprocessableEntity, "source_missing")
	f.want(f.call(submitter, "PUT", "/v1/sources/"+someDigest, strings.NewReader("abc")), http.StatusCreated, nil)
	withSource.Source.Size = 4
	f.wantProblem(f.call(submitter, "POST", "/v1/builds", withSource), http.StatusUnprocessableEntity, "digest_mismatch")
}

func TestGetShowsSpecToSubmitters(t *testing.T) {
	f := newFixture(t, nil)
	path := "/v1/builds/" + f.submit().ID.String()
	for who, shown := range map[string]bool{submitter: true, viewer: false, admin: true} {
		target := path
		if who == admin {
			target += "?project=web"
		}
		var got api.Build
		f.want(f.call(who, "GET", target, nil), http.StatusOK, &got)
		if (got.Spec != nil) != shown {
			t.Errorf("%s sees the spec %q", who, got.Spec)
		}
	}
}

func TestGetAttempts(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	id := f.start(build.ID)
	f.appendLog(id, 0, "12345")
	_, err := f.queue.Finish(t.Context(), queue.Completion{
		AttemptID: id, Outcome: queue.Failed, Reason: "exit status 3", ExitCode: new(3), LogLength: 5, LogSHA256: queue.Digest{7},
	})
	f.check(err)
	var got api.Build
	f.want(f.call(viewer, "GET", "/v1/builds/"+build.ID.String(), nil), http.StatusOK, &got)
	if got.State != "failed" || *got.ExitCode != 3 || got.Reason != "exit status 3" || got.FinishedAt == nil || got.StartedAt == nil ||
		got.Worker != "tester" || got.AttemptsUsed != 1 || len(got.Attempts) != 1 {
		t.Fatalf("got %+v", got)
	}
	a := got.Attempts[0]
	if a.Epoch != id.Epoch || a.Worker != "tester" || a.Outcome != "failed" || *a.ExitCode != 3 || a.LogLength != 5 || !a.LogComplete ||
		a.LogSHA256 != (queue.Digest{7}).String() || a.EndedAt == nil {
		t.Errorf("got %+v", a)
	}
}

func TestListPages(t *testing.T) {
	f := newFixture(t, nil)
	var want []queue.ID
	for range 7 {
		want = append(want, f.submit().ID)
	}
	slices.Reverse(want)
	f.want(f.call(otherSubmitter, "POST", "/v1/builds", api.NewBuild{Spec: []byte("x")}), http.StatusCreated, nil)
	var got []queue.ID
	target := "/v1/builds?limit=3"
	for target != "" {
		var page api.BuildPage
		f.want(f.call(viewer, "GET", target, nil), http.StatusOK, &page)
		for _, b := range page.Builds {
			got = append(got, b.ID)
			if b.Spec != nil || b.Attempts != nil {
				t.Errorf("a list shows %+v", b)
			}
		}
		target = ""
		if page.NextCursor != "" {
			target = "/v1/builds?limit=3&cursor=" + page.NextCursor
		}
		f.submit() // newer builds do not shift the pages
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestListFilters(t *testing.T) {
	f := newFixture(t, nil)
	canceled := f.submit()
	f.want(f.call(submitter, "POST", "/v1/builds/"+canceled.ID.String()+"/cancel", nil), http.StatusOK, nil)
	f.submit()
	f.want(f.call(submitter, "POST", "/v1/builds", api.NewBuild{Spec: []byte("x"), Pool: "linux"}), http.StatusCreated, nil)
	for query, want := range map[string]int{
		"": 3, "?state=pending": 2, "?state=canceled": 1, "?state=pending&state=canceled": 3, "?state=running": 0, "?pool=linux": 1, "?pool=linux&state=canceled": 0,
	} {
		var page api.BuildPage
		f.want(f.call(viewer, "GET", "/v1/builds"+query, nil), http.StatusOK, &page)
		if len(page.Builds) != want || page.Builds == nil {
			t.Errorf("%s: %d builds, want %d", query, len(page.Builds), want)
		}
	}
}

func TestCancel(t *testing.T) {
	f := newFixture(t, nil)
	cancel := func(id queue.ID, body any) *reply {
		return f.call(submitter, "POST", "/v1/builds/"+id.String()+"/cancel", body)
	}
	var state api.Canceled
	pending := f.submit()
	f.want(cancel(pending.ID, api.Cancel{Reason: "not needed"}), http.StatusOK, &state)
	if state.State != "canceled" {
		t.Errorf("state %s", state.State)
	}
	f.want(cancel(pending.ID, nil), http.StatusOK, &state) // again
	var got api.Build
	f.want(f.call(viewer, "GET", "/v1/builds/"+pending.ID.String(), nil), http.StatusOK, &got)
	if got.State != "canceled" || got.Reason != "not needed" {
		t.Errorf("got %+v", got)
	}
	running := f.submit()
	id := f.start(running.ID)
	f.want(cancel(running.ID, "{}"), http.StatusAccepted, &state)
	if state.State != "cancelling" {
		t.Errorf("state %s", state.State)
	}
	f.finish(id, queue.Succeeded) // it was faster
	f.wantProblem(cancel(running.ID, nil), http.StatusConflict, "finished")
	f.wantProblem(cancel(queue.NewID(), nil), http.StatusNotFound, "not_found")
}
