package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

// TestSubmitEverything submits a build with all that can be said of it, twice.
func TestSubmitEverything(t *testing.T) {
	f := newFixture(t, nil)
	due := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	submitted := api.NewBuild{
		Spec: []byte("make"), Priority: -3, NotBefore: &due, ConcurrencyKey: "deploy", IdempotencyKey: "delivery 1", RetryFailed: true,
		Metadata: map[string]string{"commit": "1f2e3d"},
	}
	var first, second, got api.Build
	f.want(f.call(submitter, "POST", "/v1/builds", submitted), http.StatusCreated, &first)
	f.want(f.call(submitter, "POST", "/v1/builds", submitted), http.StatusCreated, &second)
	if first.ID != second.ID {
		t.Errorf("the key made two builds, %s and %s", first.ID, second.ID)
	}
	f.want(f.call(viewer, "GET", "/v1/builds/"+first.ID.String(), nil), http.StatusOK, &got)
	if got.Priority != -3 || got.NotBefore == nil || !got.NotBefore.Equal(due) || got.ConcurrencyKey != "deploy" || !got.RetryFailed ||
		got.IdempotencyKey != "delivery 1" || got.Metadata["commit"] != "1f2e3d" {
		t.Errorf("got %+v", got)
	}
	submitted.Priority = 7
	f.wantProblem(f.call(submitter, "POST", "/v1/builds", submitted), http.StatusConflict, "conflict")
	for field, value := range map[string]string{
		"priority": "101", "not_before": `"tomorrow"`, "concurrency_key": `"a\nb"`, "idempotency_key": `"` + strings.Repeat("x", 201) + `"`,
		"metadata": `{"":"x"}`, "retry_failed": `"yes"`,
	} {
		r := f.call(submitter, "POST", "/v1/builds", `{"spec":"eA==","`+field+`":`+value+`}`)
		if f.wantProblem(r, http.StatusBadRequest, "invalid"); strings.Contains(string(r.body), "xxx") {
			t.Errorf("%s: the answer repeats the input: %s", field, r.body)
		}
	}
}

func TestRetryAndExplain(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	path := "/v1/builds/" + build.ID.String()
	var why api.Explanation
	f.want(f.call(viewer, "GET", path+"/explain", nil), http.StatusOK, &why)
	if why.State != "pending" || len(why.Verdicts) == 0 || why.Verdicts[0].Text == "" {
		t.Errorf("explained as %+v", why)
	}
	f.wantProblem(f.call(submitter, "POST", path+"/retry", nil), http.StatusConflict, "not_ended")
	f.finish(f.start(build.ID), queue.Failed)
	f.want(f.call(viewer, "GET", path+"/explain", nil), http.StatusOK, &why)
	if why.State != "failed" || why.Verdicts == nil || len(why.Verdicts) != 0 {
		t.Errorf("explained as %+v", why)
	}
	var again api.Build
	r := f.call(submitter, "POST", path+"/retry", nil)
	f.want(r, http.StatusCreated, &again)
	if again.RetryOf == nil || *again.RetryOf != build.ID || again.State != "pending" || r.Header.Get("Location") != "/v1/builds/"+again.ID.String() {
		t.Errorf("retried as %+v at %s", again, r.Header.Get("Location"))
	}
	unknown := "/v1/builds/" + queue.NewID().String()
	f.wantProblem(f.call(submitter, "POST", unknown+"/retry", nil), http.StatusNotFound, "not_found")
	f.wantProblem(f.call(viewer, "GET", unknown+"/explain", nil), http.StatusNotFound, "not_found")
}

// TestControls sets what admins may set, and reads it back.
func TestControls(t *testing.T) {
	f := newFixture(t, nil)
	f.want(f.call(admin, "PUT", "/v1/pools/linux", api.Pool{Paused: new(true), Fair: new(true), Weights: map[string]int{"web": 3}}), http.StatusNoContent, nil)
	f.want(f.call(admin, "PUT", "/v1/pools/linux", api.Pool{Fair: new(false)}), http.StatusNoContent, nil)
	var pools api.Pools
	f.want(f.call(admin, "GET", "/v1/pools", nil), http.StatusOK, &pools)
	if len(pools.Pools) != 1 || pools.Pools[0].Name != "linux" || !*pools.Pools[0].Paused || *pools.Pools[0].Fair || pools.Pools[0].Weights["web"] != 3 {
		t.Errorf("pools %+v", pools)
	}
	for _, name := range []string{"app", "web"} {
		change := api.Project{Paused: new(name == "web"), ArtifactQuota: new(int64(1 << 30))}
		f.want(f.call(admin, "PUT", "/v1/projects/"+name, change), http.StatusNoContent, nil)
		f.want(f.call(admin, "PUT", "/v1/projects/web/limits", api.Limit{Key: name + " key", Max: 4}), http.StatusNoContent, nil)
	}
	var projects []api.Project
	var limits []api.Limit
	for cursor := ""; ; {
		var page api.ProjectPage
		f.want(f.call(admin, "GET", "/v1/projects?limit=1"+cursor, nil), http.StatusOK, &page)
		projects = append(projects, page.Projects...)
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	for cursor := ""; ; {
		var page api.LimitPage
		f.want(f.call(admin, "GET", "/v1/projects/web/limits?limit=1"+cursor, nil), http.StatusOK, &page)
		limits = append(limits, page.Limits...)
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	if len(projects) != 2 || projects[0].Name != "app" || *projects[0].Paused || !*projects[1].Paused || *projects[1].ArtifactQuota != 1<<30 {
		t.Errorf("projects %+v", projects)
	}
	if len(limits) != 2 || limits[0].Key != "app key" || limits[1].Max != 4 {
		t.Errorf("limits %+v", limits)
	}
	for path, body := range map[string]string{
		"/v1/pools/Linux": `{}`, "/v1/pools/linux": `{"weights":{"web":-1}}`, "/v1/pools/mac": `{"name":"linux"}`,
		"/v1/projects/web": `{"artifact_quota":-1}`, "/v1/projects/app": `{"artifact_bytes":7}`, "/v1/projects/web/limits": `{"key":"","max":1}`,
	} {
		f.wantProblem(f.call(admin, "PUT", path, body), http.StatusBadRequest, "invalid")
	}
	f.wantProblem(f.call(admin, "GET", "/v1/projects?cursor=%21", nil), http.StatusBadRequest, "invalid")
}

func TestStats(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	f.finish(f.start(build.ID), queue.Failed)
	f.submit()
	var stats api.Stats
	f.want(f.call(viewer, "GET", "/v1/stats?days=2", nil), http.StatusOK, &stats)
	var submitted, failed int64
	for _, day := range stats.Days {
		submitted, failed = submitted+day.Submitted, failed+day.Failed
	}
	if submitted != 2 || failed != 1 || stats.Pending != 1 || len(stats.Days[0].Day) != len(time.DateOnly) {
		t.Errorf("stats %+v", stats)
	}
	f.wantProblem(f.call(viewer, "GET", "/v1/stats?days=401", nil), http.StatusBadRequest, "invalid")
}
