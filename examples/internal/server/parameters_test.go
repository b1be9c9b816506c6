package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

const canary = "canary7f3a" // never repeated by an answer

func TestBadParameters(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	id := f.start(build.ID)
	f.addArtifact(id, "bin/app", "an app")
	b := "/v1/builds/" + build.ID.String()
	cursor := strings.Repeat("A", 22)
	for _, target := range []string{
		// pages
		"/v1/builds?limit=abc", "/v1/builds?limit=-1", "/v1/builds?limit=0", "/v1/builds?limit=201", "/v1/builds?limit=100000", "/v1/builds?limit=1.5",
		"/v1/builds?limit=1e1", "/v1/builds?limit=0x10", "/v1/builds?limit=99999999999999999999", "/v1/builds?limit=", "/v1/builds?limit", "/v1/builds?limit=1&limit=2",
		"/v1/builds?limit=%31%", "/v1/builds?limit=1;pool=x",
		"/v1/builds?cursor=" + canary, "/v1/builds?cursor=" + cursor, "/v1/builds?cursor=" + cursor + "A", "/v1/builds?cursor=" + build.ID.String(),
		"/v1/builds?cursor='%20OR%201=1--", "/v1/builds?cursor=%00", "/v1/builds?cursor=",
		"/v1/builds?state=" + canary, "/v1/builds?state=PENDING", "/v1/builds?state=pending,running", "/v1/builds?state=pending&state=" + canary, "/v1/builds?state=", "/v1/builds?state=0",
		"/v1/builds?pool=" + canary + "!", "/v1/builds?pool=" + strings.Repeat("a", 64), "/v1/builds?pool=", "/v1/builds?pool=..",
		"/v1/builds?project=NO", "/v1/builds?project=", "/v1/builds?project=default&project=other", "/v1/builds?project=a/b",
		"/v1/builds?" + canary[:6] + "=1", "/v1/builds?Limit=1", "/v1/builds?limit=1&x", "/v1/builds?=1",
		"/v1/keys?limit=0", "/v1/keys?limit=x", "/v1/keys?limit=201", "/v1/keys?cursor=" + canary, "/v1/keys?cursor=" + cursor, "/v1/keys?cursor=MDE", "/v1/keys?cursor=", "/v1/keys?project=NO", "/v1/keys?role=x",
		// ids
		"/v1/builds/" + canary, "/v1/builds/0", "/v1/builds/" + strings.ToUpper(build.ID.String()) + "0", "/v1/builds/" + build.ID.String()[1:], "/v1/builds/%00",
		"/v1/builds/6ba7b810-9dad-11d1-80b4-00c04fd430c8", "/v1/builds/" + strings.ReplaceAll(build.ID.String(), "-", ""), "/v1/builds/" + strings.Repeat("a", 4000),
		"/v1/builds/" + canary + "/log", "/v1/builds/" + canary + "/artifacts", "/v1/builds/" + canary + "/artifacts/x", b + "?epoch=1", b + "?" + canary[:6],
		// attempts
		b + "/artifacts?epoch=0", b + "/artifacts?epoch=-1", b + "/artifacts?epoch=x", b + "/artifacts?epoch=2147483648", b + "/artifacts?epoch=", b + "/artifacts?limit=1",
		b + "/artifacts/bin/app?epoch=0", b + "/artifacts/bin/app?epoch=true", b + "/artifacts/bin/app?epoch=1&epoch=1", b + "/artifacts/bin/app?download=1",
		b + "/artifacts/..%2f..%2fetc%2fpasswd", b + "/artifacts/a%00b", b + "/artifacts/a%5cb", b + "/artifacts/%2fetc", b + "/artifacts/a%0d%0ab", b + "/artifacts/bin%2f",
		b + "/artifacts/%e2%80%aegpj.exe", b + "/artifacts/%ff", b + "/artifacts/" + strings.Repeat("a", 256), b + "/artifacts/",
		// logs
		b + "/log?epoch=0", b + "/log?epoch=x", b + "/log?epoch=-1", b + "/log?offset=-1", b + "/log?offset=x", b + "/log?offset=9223372036854775808", b + "/log?offset=",
		b + "/log?limit=0", b + "/log?limit=-5", b + "/log?limit=1048577", b + "/log?limit=1x", b + "/log?wait_ms=-1", b + "/log?wait_ms=30001", b + "/log?wait_ms=1s", b + "/log?wait_ms=true",
		b + "/log?follow=true", b + "/log?offset=1&offset=2", b + "/log?wait=1", b + "/log?project=..",
		// probes
		"/livez?verbose", "/readyz?full=1", "/openapi.json?x=1",
	} {
		if detail := f.wantProblem(f.call(admin, "GET", projected(target), nil), http.StatusBadRequest, "invalid"); detail == "" || strings.Contains(detail, canary) {
			t.Errorf("GET %s: detail %q", target, detail)
		}
	}
	for _, target := range []string{
		"POST " + b + "/cancel?force=true", "POST /v1/builds/" + canary + "/cancel", "POST /v1/builds?dry_run=1", "POST /v1/keys?project=web", "DELETE /v1/keys/" + someKeyID + "?force=1",
		"PUT /v1/sources/" + canary, "PUT /v1/sources/" + someDigest[1:], "PUT /v1/sources/" + someDigest + "0", "PUT /v1/sources/" + someDigest[1:] + "g", "PUT /v1/sources/" + someDigest + "?x=1",
	} {
		method, path, _ := strings.Cut(target, " ")
		var body any = "{}"
		switch {
		case method == http.MethodDelete:
			body = nil
		case strings.HasPrefix(path, "/v1/builds?"):
			body = api.NewBuild{Spec: []byte("x")}
		case path == "/v1/keys?project=web":
			body = api.NewKey{Kind: "api", Role: "admin", Name: "x"}
		}
		if detail := f.wantProblem(f.call(admin, method, path, body), http.StatusBadRequest, "invalid"); detail == "" || strings.Contains(detail, canary) {
			t.Errorf("%s: detail %q", target, detail)
		}
	}
	f.want(f.call(admin, "HEAD", "/v1/sources/"+canary, nil), http.StatusBadRequest, nil)
	f.wantProblem(f.call(admin, "DELETE", "/v1/keys/"+canary, nil), http.StatusNotFound, "not_found")
	f.wantProblem(f.call(admin, "GET", b+"/log?epoch=7&project=web", nil), http.StatusNotFound, "not_found")
	f.wantProblem(f.call(admin, "GET", b+"/artifacts?epoch=7&project=web", nil), http.StatusNotFound, "not_found")
}

// projected names project web where a target is about a build, so that what is wrong is not the project.
func projected(target string) string {
	if !strings.HasPrefix(target, "/v1/builds/") || strings.Contains(target, "project=") {
		return target
	}
	if strings.Contains(target, "?") {
		return target + "&project=web"
	}
	return target + "?project=web"
}

func TestGoodParameters(t *testing.T) {
	f := newFixture(t, nil)
	b := "/v1/builds/" + f.submit().ID.String()
	for _, target := range []string{
		"/v1/builds", "/v1/builds?limit=1", "/v1/builds?limit=200", "/v1/builds?state=pending&state=lost&pool=default", "/v1/builds?project=other",
		b + "?project=web", "/v1/builds/" + strings.ToUpper(strings.TrimPrefix(b, "/v1/builds/")) + "?project=web", b + "/log?project=web&wait_ms=0&limit=1048576&offset=0",
		b + "/artifacts?project=web", "/v1/keys?limit=3", "/v1/keys?project=web",
	} {
		f.want(f.call(admin, "GET", target, nil), http.StatusOK, nil)
	}
}

func TestBadBodies(t *testing.T) {
	f := newFixture(t, nil)
	cancel := "/v1/builds/" + f.submit().ID.String() + "/cancel"
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	for _, tt := range []struct{ path, body string }{
		{"/v1/builds", ""},
		{"/v1/builds", " "},
		{"/v1/builds", "null"},
		{"/v1/builds", "[]"},
		{"/v1/builds", `"x"`},
		{"/v1/builds", "{"},
		{"/v1/builds", "{}"},
		{"/v1/builds", canary},
		{"/v1/builds", `{"spec":"eA=="} {}`},
		{"/v1/builds", `{"spec":"eA=="}x`},
		{"/v1/builds", `{"spec":"eA=="},`},
		{"/v1/builds", `{"spec":"eA==","canary7f3":1}`},
		{"/v1/builds", `{"Spec":"eA=="}`},
		{"/v1/builds", `{"spec":"eA==","spec":"eA=="}`},
		{"/v1/builds", `{"spec":"eA==","SPEC":"eA=="}`},
		{"/v1/builds", `{"spec":"eA==","labels":{"a":"1","a":"2"}}`},
		{"/v1/builds", `{"spec":` + deep + `}`},
		{"/v1/builds", strings.Repeat("[", 100_000)},
		{"/v1/builds", `{"spec":"canary7f3a!"}`},
		{"/v1/builds", `{"spec":1}`},
		{"/v1/builds", `{"spec":null}`},
		{"/v1/builds", `{"spec":["x"]}`},
		{"/v1/builds", `{"spec":"eA==","id":"canary7f3a"}`},
		{"/v1/builds", `{"spec":"eA==","id":7}`},
		{"/v1/builds", `{"spec":"eA==","id":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}`},
		{"/v1/builds", `{"spec":"eA==","pool":"CANARY7F3A"}`},
		{"/v1/builds", `{"spec":"eA==","pool":"` + strings.Repeat("a", 64) + `"}`},
		{"/v1/builds", `{"spec":"eA==","pool":true}`},
		{"/v1/builds", `{"spec":"eA==","labels":[]}`},
		{"/v1/builds", `{"spec":"eA==","labels":{"a":1}}`},
		{"/v1/builds", `{"spec":"eA==","labels":{"A B":"x"}}`},
		{"/v1/builds", `{"spec":"eA==","labels":{"a":"canary7f3a "}}`},
		{"/v1/builds", `{"spec":"eA==","run_timeout_ms":-1}`},
		{"/v1/builds", `{"spec":"eA==","run_timeout_ms":1.5}`},
		{"/v1/builds", `{"spec":"eA==","run_timeout_ms":1e300}`},
		{"/v1/builds", `{"spec":"eA==","run_timeout_ms":2592000001}`},
		{"/v1/builds", `{"spec":"eA==","run_timeout_ms":"1h"}`},
		{"/v1/builds", `{"spec":"eA==","queue_timeout_ms":9223372036854775807}`},
		{"/v1/builds", `{"spec":"eA==","max_attempts":-1}`},
		{"/v1/builds", `{"spec":"eA==","max_attempts":101}`},
		{"/v1/builds", `{"spec":"eA==","max_attempts":1e999}`},
		{"/v1/builds", `{"spec":"eA==","source":{}}`},
		{"/v1/builds", `{"spec":"eA==","source":{"sha256":"canary7f3a","size":1}}`},
		{"/v1/builds", `{"spec":"eA==","source":{"sha256":"` + someDigest + `","size":-1}}`},
		{"/v1/builds", `{"spec":"eA==","source":{"sha256":"` + someDigest + `","size":1,"x":1}}`},
		{"/v1/builds", `{"spec":"eA==","source":"x"}`},
		{cancel, "[]"},
		{cancel, `{"reason":1}`},
		{cancel, `{"reasons":"x"}`},
		{cancel, `{"reason":"x"}{}`},
		{"/v1/keys", "{}"},
		{"/v1/keys", `{"kind":"api","name":"x"}`},
		{"/v1/keys", `{"kind":"canary7f3a","name":"x"}`},
		{"/v1/keys", `{"kind":"api","role":"root","name":"x"}`},
		{"/v1/keys", `{"kind":"api","role":"worker","name":"x"}`},
		{"/v1/keys", `{"kind":"worker","role":"admin","name":"x","worker":"w","pools":["p"]}`},
		{"/v1/keys", `{"kind":"worker","name":"x","worker":"w"}`},
		{"/v1/keys", `{"kind":"worker","name":"x","worker":"w","pools":["P"]}`},
		{"/v1/keys", `{"kind":"worker","name":"x","worker":"w","pools":["p","p"]}`},
		{"/v1/keys", `{"kind":"worker","name":"x","worker":"../w","pools":["p"]}`},
		{"/v1/keys", `{"kind":"api","role":"viewer","name":"x"}`},
		{"/v1/keys", `{"kind":"api","role":"viewer","name":"x","project":"NO"}`},
		{"/v1/keys", `{"kind":"api","role":"admin","name":"x","project":"web"}`},
		{"/v1/keys", `{"kind":"api","role":"admin","name":""}`},
		{"/v1/keys", `{"kind":"api","role":"admin","name":"a\u0000b"}`},
		{"/v1/keys", `{"kind":"api","role":"admin","name":"x","expires_in_ms":-1}`},
		{"/v1/keys", `{"kind":"api","role":"admin","name":"x","expires_in_ms":1e18}`},
		{"/v1/keys", `{"kind":"api","role":"admin","name":"x","secret":"y"}`},
	} {
		r := f.call(admin, "POST", projected(tt.path), tt.body)
		if detail := f.wantProblem(r, http.StatusBadRequest, "invalid"); detail == "" || strings.Contains(detail, canary) {
			t.Errorf("%s %.100s: detail %q", tt.path, tt.body, detail)
		}
	}
	var page api.BuildPage
	f.want(f.call(admin, "GET", "/v1/builds", nil), http.StatusOK, &page)
	if len(page.Builds) != 0 {
		t.Errorf("bad bodies made %d builds", len(page.Builds))
	}
}

func TestContentType(t *testing.T) {
	f := newFixture(t, nil)
	body := `{"spec":"eA=="}`
	for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data; boundary=x", "application/cbor"} {
		r := f.call(submitter, "POST", "/v1/builds", body, "Content-Type", contentType)
		f.wantProblem(r, http.StatusUnsupportedMediaType, "unsupported_media_type")
	}
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8"} {
		f.want(f.call(submitter, "POST", "/v1/builds", body, "Content-Type", contentType, "Accept", "application/cbor"), http.StatusCreated, nil)
	}
}

func TestLargeBodies(t *testing.T) {
	f := newFixture(t, nil)
	const limit = 1 << 20
	body := func(size int) string { // of spaces, for the most part
		const core = `{"spec":"eA=="}`
		return core + strings.Repeat(" ", size-len(core))
	}
	f.want(f.call(submitter, "POST", "/v1/builds", body(limit)), http.StatusCreated, nil)
	f.wantProblem(f.call(submitter, "POST", "/v1/builds", body(limit+1)), http.StatusRequestEntityTooLarge, "too_large")
	chunked := io.MultiReader(strings.NewReader(body(limit + 1))) // of a length that the client does not know
	r := f.call(submitter, "POST", "/v1/builds", chunked, "Content-Type", "application/json")
	f.wantProblem(r, http.StatusRequestEntityTooLarge, "too_large")

	spec := make([]byte, queue.MaxSpec)
	f.want(f.call(submitter, "POST", "/v1/builds", api.NewBuild{Spec: spec}), http.StatusCreated, nil)
	r = f.call(submitter, "POST", "/v1/builds", api.NewBuild{Spec: append(spec, 0)})
	f.wantProblem(r, http.StatusBadRequest, "invalid")
}

// TestBodyWhereNoneIsTaken: nobody would read it.
func TestBodyWhereNoneIsTaken(t *testing.T) {
	f := newFixture(t, nil)
	for _, target := range []string{"GET /v1/builds", "GET /livez", "DELETE /v1/keys/" + someKeyID, "GET /v1/builds/" + f.submit().ID.String() + "/log"} {
		method, path, _ := strings.Cut(target, " ")
		f.wantProblem(f.call(admin, method, path, "{}"), http.StatusBadRequest, "invalid")
	}
}

// TestCutBody sends less of a body than it says there is.
func TestCutBody(t *testing.T) {
	f := newFixture(t, nil)
	for path, want := range map[string]string{"POST /v1/builds": "invalid", "PUT /v1/sources/" + someDigest: "invalid"} {
		conn := f.dial()
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 20\r\n\r\n{\"spec\"", path, f.secrets[submitter])
		f.check(conn.(*net.TCPConn).CloseWrite())
		answer := string(must(io.ReadAll(conn)))
		if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, `"code":"`+want+`"`) {
			t.Errorf("%s: %s", path, answer)
		}
	}
	f.wantEmptyStore()
}

// dial opens a connection for a client that does not behave.
func (f *fixture) dial() net.Conn {
	f.Helper()
	conn, err := new(net.Dialer).DialContext(f.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	f.check(err)
	f.Cleanup(func() { conn.Close() })
	return conn
}

func (f *fixture) wantEmptyStore() {
	f.Helper()
	for info, err := range f.store.All(f.Context()) {
		f.check(err)
		f.Errorf("left behind: %v", info.Key)
	}
}
