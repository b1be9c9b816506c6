package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/server"
)

const (
	someDigest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // of "abc"
	someKeyID  = "0123456789abcdefghijklmn"
)

// target is what a request to a route looks like. id names a build of project web.
func target(route server.Route, id string) (method, path string, body any) {
	method, path, ok := strings.Cut(route.Pattern, " ")
	if !ok {
		method, path = http.MethodGet, route.Pattern+"connect"
	}
	if strings.HasPrefix(path, "/v1/keys") {
		id = someKeyID
	}
	path = strings.NewReplacer("{id}", id, "{name...}", "bin/app", "{name}", "web", "{sha256}", someDigest).Replace(path)
	switch route.Pattern {
	case "POST /v1/builds":
		body = api.NewBuild{Spec: []byte("make")}
	case "POST /v1/builds/{id}/cancel":
		body = api.Cancel{}
	case "PUT /v1/pools/{name}":
		body = api.Pool{Paused: new(false)}
	case "PUT /v1/projects/{name}":
		body = api.Project{Paused: new(false)}
	case "PUT /v1/projects/{name}/limits":
		body = api.Limit{Key: "deploy", Max: 2}
	case "PUT /v1/sources/{sha256}":
		body = strings.NewReader("abc")
	case "POST /v1/enrolments":
		body = api.Enrolment{Worker: "rack-1", SHA256: someDigest}
	case "POST /v1/keys":
		body = api.NewKey{Kind: "api", Role: "viewer", Name: "x", Project: "web"}
	}
	return method, path, body
}

func TestRouteList(t *testing.T) {
	f := newFixture(t, nil)
	var got []string
	for _, route := range f.server.Routes() {
		got = append(got, string(route.May)+": "+route.Pattern)
	}
	slices.Sort(got)
	want := []string{
		": GET /livez", ": GET /openapi.json", ": GET /readyz", "cancel: POST /v1/builds/{id}/cancel", "connect: /v1/worker/",
		"enrol: POST /v1/enrolments",
		"manage: DELETE /v1/keys/{id}", "manage: GET /v1/keys", "manage: GET /v1/pools", "manage: GET /v1/projects",
		"manage: GET /v1/projects/{name}/limits", "manage: POST /v1/keys", "manage: PUT /v1/pools/{name}", "manage: PUT /v1/projects/{name}",
		"manage: PUT /v1/projects/{name}/limits",
		"read: GET /v1/builds", "read: GET /v1/builds/{id}", "read: GET /v1/builds/{id}/artifacts",
		"read: GET /v1/builds/{id}/artifacts/{name...}", "read: GET /v1/builds/{id}/explain", "read: GET /v1/builds/{id}/log",
		"read: GET /v1/builds/{id}/log/events", "read: GET /v1/stats",
		"submit: HEAD /v1/sources/{sha256}", "submit: POST /v1/builds", "submit: POST /v1/builds/{id}/retry", "submit: PUT /v1/sources/{sha256}",
	}
	if !slices.Equal(got, want) {
		t.Errorf("routes:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestRoles asks every route as every role, and without a credential.
func TestRoles(t *testing.T) {
	f := newFixture(t, nil)
	roles := map[string]auth.Role{
		anonymous: "", admin: auth.Admin, submitter: auth.Submitter, viewer: auth.Viewer, agent: auth.Worker,
	}
	for _, route := range f.server.Routes() {
		for who, role := range roles {
			method, path, body := target(route, f.submit().ID.String())
			r := f.call(who, method, path, body)
			switch {
			case route.May == server.Anybody:
				f.want(r, http.StatusOK, nil)
			case who == anonymous:
				wantStatus(f, r, http.StatusUnauthorized, "unauthorized")
				if r.Header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("%s: a 401 without WWW-Authenticate", route.Pattern)
				}
			case route.May == auth.Enrol: // these are keys, and no tokens
				f.wantProblem(r, http.StatusUnauthorized, "unauthorized")
			case !role.Can(route.May):
				wantStatus(f, r, http.StatusForbidden, "forbidden")
			case r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden || r.StatusCode >= 500:
				t.Errorf("%s as %s: %s %s", route.Pattern, who, r.Status, r.body)
			}
		}
	}
}

// wantStatus is wantProblem for answers that may have no body, because HEAD was asked.
func wantStatus(f *fixture, r *reply, status int, code string) {
	f.Helper()
	if r.Request.Method == http.MethodHead {
		f.want(r, status, nil)
		return
	}
	f.wantProblem(r, status, code)
}

func TestBadCredentials(t *testing.T) {
	f := newFixture(t, nil)
	good := f.secrets[viewer]
	for name, header := range map[string]string{
		"none": "", "empty": "Bearer ", "no scheme": good, "other scheme": "Basic " + good, "cut": "Bearer " + good[:len(good)-1],
		"changed": "Bearer " + strings.ToUpper(good), "long": "Bearer " + strings.Repeat("x", 4000), "two": "Bearer " + good + " " + good,
	} {
		r := f.call(anonymous, "GET", "/v1/builds", nil, "Authorization", header)
		if detail := f.wantProblem(r, http.StatusUnauthorized, "unauthorized"); detail != "" {
			t.Errorf("%s: %s", name, detail)
		}
	}
	r := f.call(anonymous, "GET", "/v1/builds?key="+good, nil)
	f.wantProblem(r, http.StatusUnauthorized, "unauthorized")
}

// TestOtherProject asks for everything in project web with keys of project app: none of it exists.
func TestOtherProject(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	id := f.start(build.ID)
	f.appendLog(id, 0, "a log")
	f.addArtifact(id, "bin/app", "an app")
	f.want(f.call(submitter, "PUT", "/v1/sources/"+someDigest, strings.NewReader("abc")), http.StatusCreated, nil)
	for _, route := range f.server.Routes() {
		if route.May != auth.Read && route.May != auth.Submit && route.May != auth.Cancel {
			continue
		}
		for _, who := range []string{otherSubmitter, otherViewer} {
			if who == otherViewer && route.May != auth.Read {
				continue
			}
			method, path, body := target(route, build.ID.String())
			named := f.call(who, method, path+"?project=web", body)
			wantStatus(f, named, http.StatusNotFound, "not_found")
			if strings.Contains(path, build.ID.String()) || method == http.MethodHead {
				wantStatus(f, f.call(who, method, path, body), http.StatusNotFound, "not_found")
			}
		}
	}
	var page api.BuildPage
	f.want(f.call(otherViewer, "GET", "/v1/builds", nil), http.StatusOK, &page)
	if len(page.Builds) != 0 {
		t.Errorf("a list of another project has %v", page.Builds)
	}
	// Reading by guessing: the digest of another project's source is as good as none.
	r := f.call(otherSubmitter, "POST", "/v1/builds", api.NewBuild{Spec: []byte("x"), Source: &api.Source{SHA256: someDigest, Size: 3}})
	f.wantProblem(r, http.StatusUnprocessableEntity, "source_missing")
	var got api.Build
	f.want(f.call(viewer, "GET", "/v1/builds/"+build.ID.String(), nil), http.StatusOK, &got)
	if got.State != "running" {
		t.Errorf("after that the build is %s", got.State)
	}
}

func TestUnknownRoutes(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{
		"/", "/v1", "/v1/", "/v1/build", "/v1/builds/", "//v1/builds", "/v1//builds", "/v1/../v1/builds", "/v1/builds/%2e%2e/keys", "/v1/worker",
		"/v1/worker/", "/v1/worker/nothing", "/docs", "/schemas/Build.json", "/openapi.yaml", "/debug/pprof/", "/metrics", "/V1/builds", "/v1/keys/",
		"/v1/builds/x/../../keys", "/.env",
	} {
		r := f.call(admin, "GET", path, nil)
		if r.StatusCode == http.StatusBadRequest && strings.Contains(path, "%2e") {
			continue // it is the id of a build, and a bad one
		}
		f.wantProblem(r, http.StatusNotFound, "not_found")
	}
	for target, allow := range map[string]string{
		"DELETE /v1/builds": "GET, HEAD, POST", "POST /livez": "GET, HEAD", "GET /v1/sources/" + someDigest: "HEAD, PUT", "PUT /v1/keys": "GET, HEAD, POST",
		"GET /v1/keys/" + someKeyID: "DELETE", "OPTIONS /v1/builds": "GET, HEAD, POST", "TRACE /v1/builds": "GET, HEAD, POST",
		"GET /v1/builds/x/cancel": "POST",
	} {
		method, path, _ := strings.Cut(target, " ")
		r := f.call(admin, method, path, nil)
		f.wantProblem(r, http.StatusMethodNotAllowed, "method_not_allowed")
		if got := r.Header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow: %s, want %s", target, got, allow)
		}
	}
}

// TestDescription holds the OpenAPI description against the routes.
func TestDescription(t *testing.T) {
	f := newFixture(t, nil)
	r := f.call(anonymous, "GET", "/openapi.json", nil)
	var spec struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Security    []map[string][]string
			Parameters  []struct{ Name, In string }
			Responses   map[string]any
		}
		Components struct{ Schemas map[string]any }
	}
	f.check(json.Unmarshal(r.body, &spec))
	if !strings.HasPrefix(spec.OpenAPI, "3.1") || r.Header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("openapi %s as %s", spec.OpenAPI, r.Header.Get("Content-Type"))
	}
	for _, route := range f.server.Routes() {
		if route.May == server.Anybody || route.May == auth.Connect {
			continue
		}
		method, path, _ := strings.Cut(strings.ReplaceAll(route.Pattern, "...}", "}"), " ")
		op, ok := spec.Paths[path][strings.ToLower(method)]
		if !ok || op.OperationID == "" || len(op.Security) != 1 || len(op.Responses) < 2 {
			t.Errorf("%s is described as %+v", route.Pattern, op)
		}
		var params []string
		for _, p := range op.Parameters {
			params = append(params, p.In+" "+p.Name)
		}
		for part := range strings.SplitSeq(path, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok && !slices.Contains(params, "path "+strings.TrimSuffix(name, "}")) {
				t.Errorf("%s: no parameter %s in %v", route.Pattern, name, params)
			}
		}
		if route.May != auth.Manage && route.May != auth.Enrol && !slices.Contains(params, "query project") {
			t.Errorf("%s: no parameter project in %v", route.Pattern, params)
		}
	}
	for _, schema := range []string{"Build", "NewBuild", "Problem", "CreatedKey"} {
		if spec.Components.Schemas[schema] == nil {
			t.Errorf("no schema %s", schema)
		}
	}
	if strings.Contains(string(r.body), "$schema") {
		t.Error("bodies have $schema")
	}
}
