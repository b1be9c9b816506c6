package server_test

import (
	"encoding/base64"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/server"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
)

func artifactPath(id queue.ID, name string) string {
	return "/v1/builds/" + id.String() + "/artifacts/" + strings.ReplaceAll(url.PathEscape(name), "%2F", "/")
}

func TestListArtifacts(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	list := func(query string) []api.Artifact {
		var l api.Artifacts
		f.want(f.call(viewer, "GET", "/v1/builds/"+build.ID.String()+"/artifacts"+query, nil), http.StatusOK, &l)
		if l.Artifacts == nil {
			t.Error("the list is null")
		}
		return l.Artifacts
	}
	if got := list(""); len(got) != 0 {
		t.Errorf("before the first attempt: %v", got)
	}
	id := f.start(build.ID)
	if got := list(""); len(got) != 0 {
		t.Errorf("before the first artifact: %v", got)
	}
	second, first := f.addArtifact(id, "report.txt", "fine"), f.addArtifact(id, "bin/app", "an app")
	got := list("?epoch=1")
	if len(got) != 2 || got[0] != (api.Artifact{Name: "bin/app", Size: 6, SHA256: first.String(), Epoch: 1}) || got[1].SHA256 != second.String() {
		t.Errorf("got %+v", got)
	}
	// Reserved is not there yet.
	_, err := f.queue.ReserveArtifact(t.Context(), queue.NewArtifact{AttemptID: id, Name: "later", Digest: first, Size: 6})
	f.check(err)
	if got := list(""); len(got) != 2 {
		t.Errorf("with a reserved one: %+v", got)
	}
	f.wantProblem(f.call(viewer, "GET", artifactPath(build.ID, "later"), nil), http.StatusNotFound, "not_found")
}

func TestDownload(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	id := f.start(build.ID)
	content := "<script>alert(1)</script>"
	digest := f.addArtifact(id, "site/index.html", content)
	target := artifactPath(build.ID, "site/index.html")
	etag := `"` + digest.String() + `"`

	r := f.call(viewer, "GET", target, nil)
	f.want(r, http.StatusOK, nil)
	if string(r.body) != content {
		t.Errorf("got %q", r.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff", "ETag": etag, "Content-Length": "25",
		"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "private, no-cache", "Accept-Ranges": "bytes",
		"Repr-Digest": "sha-256=:" + base64.StdEncoding.EncodeToString(digest[:]) + ":", "Content-Disposition": "attachment; filename=index.html",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	head := f.call(viewer, "HEAD", target, nil)
	f.want(head, http.StatusOK, nil)
	if head.ContentLength != 25 || head.Header.Get("ETag") != etag || len(head.body) != 0 {
		t.Errorf("HEAD: %v", head.Header)
	}
	for _, tt := range []struct {
		headers []string
		status  int
		body    string
	}{
		{[]string{"Range", "bytes=0-7"}, http.StatusPartialContent, "<script>"},
		{[]string{"Range", "bytes=-9"}, http.StatusPartialContent, "</script>"},
		{[]string{"Range", "bytes=24-"}, http.StatusPartialContent, ">"},
		{[]string{"Range", "bytes=8-", "If-Range", etag}, http.StatusPartialContent, content[8:]},
		{[]string{"Range", "bytes=8-", "If-Range", `"other"`}, http.StatusOK, content},
		{[]string{"If-None-Match", etag}, http.StatusNotModified, ""},
		{[]string{"If-None-Match", "*"}, http.StatusNotModified, ""},
		{[]string{"If-None-Match", `"other", ` + etag}, http.StatusNotModified, ""},
		{[]string{"If-None-Match", `"other"`}, http.StatusOK, content},
		{[]string{"If-Match", etag}, http.StatusOK, content},
		{[]string{"If-Match", `"other"`}, http.StatusPreconditionFailed, ""},
	} {
		r := f.call(viewer, "GET", target, nil, tt.headers...)
		if r.StatusCode != tt.status || string(r.body) != tt.body {
			t.Errorf("%v: %s %q", tt.headers, r.Status, r.body)
		}
	}
	for _, bad := range []string{"bytes=25-", "bytes=99-100", "bytes=x"} {
		r := f.call(viewer, "GET", target, nil, "Range", bad)
		f.wantProblem(r, http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable")
		if r.Header.Get("ETag") != "" || r.Header.Get("Content-Disposition") != "" {
			t.Errorf("the problem has headers of the artifact: %v", r.Header)
		}
	}
	f.wantProblem(f.call(viewer, "GET", target+"x", nil), http.StatusNotFound, "not_found")
	f.wantProblem(f.call(viewer, "GET", target+"?epoch=2", nil), http.StatusNotFound, "not_found")
	f.want(f.call(viewer, "GET", target+"?epoch=1", nil), http.StatusOK, nil)
	f.wantProblem(f.call(viewer, "GET", artifactPath(queue.NewID(), "x"), nil), http.StatusNotFound, "not_found")
}

// TestDownloadNames: whatever the name, there is one header that reads back as its last part.
func TestDownloadNames(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	id := f.start(build.ID)
	for _, name := range []string{
		"plain.txt", "with space.txt", `quo"te.txt`, `"`, "semi;colon.txt", "a=b", "percent%41.txt", "comma,x", "bäume/größe.txt", "日本語.tar.gz", "e\u0301.txt",
		"dir/.hidden", "-rf", "~", "a?b#c", "'; drop table builds; --", "<img src=x onerror=alert(1)>", "very/" + strings.Repeat("long", 60),
	} {
		f.addArtifact(id, name, "content of "+name)
		r := f.call(viewer, "GET", artifactPath(build.ID, name), nil)
		f.want(r, http.StatusOK, nil)
		values := r.Header.Values("Content-Disposition")
		if len(values) != 1 || strings.ContainsAny(values[0], "\r\n") {
			t.Fatalf("%q: %q", name, values)
		}
		kind, params, err := mime.ParseMediaType(values[0])
		if err != nil || kind != "attachment" || params["filename"] != path.Base(name) || len(params) != 1 {
			t.Errorf("%q: %q reads back as %s %v: %v", name, values[0], kind, params, err)
		}
		if string(r.body) != "content of "+name {
			t.Errorf("%q: got %q", name, r.body)
		}
	}
	// Names that the queue would not take do not get as far as a header, though a row has them.
	for _, name := range []string{"a\r\nSet-Cookie: x=1", "a\nb", "../../etc/passwd", "a\u202egpj.exe", "nul\x00"} {
		f.addArtifact(id, name, "evil")
		r := f.call(viewer, "GET", "/v1/builds/"+build.ID.String()+"/artifacts/"+url.PathEscape(name), nil)
		f.wantProblem(r, http.StatusBadRequest, "invalid")
		if r.Header.Get("Set-Cookie") != "" || r.Header.Get("Content-Disposition") != "" {
			t.Errorf("%q: %v", name, r.Header)
		}
	}
}

// TestDownloadLost is about a row whose bytes are gone.
func TestDownloadLost(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	id := f.start(build.ID)
	digest := f.addArtifact(id, "bin/app", "an app")
	f.check(f.store.Delete(t.Context(), "web", [32]byte(digest)))
	f.wantProblem(f.call(viewer, "GET", artifactPath(build.ID, "bin/app"), nil), http.StatusNotFound, "not_found")
}

// TestDownloadLeavesCopyingToKernel: what reaches the connection is a file, or a part of one, and not the bytes of it.
func TestDownloadLeavesCopyingToKernel(t *testing.T) {
	files := must(filestore.New(t.TempDir(), nil))
	defer files.Close()
	f := newFixture(t, nil)
	f.store = storage.New(files, nil)
	parts := f.server.Parts
	parts.Store = f.store
	s := must(server.New(parts, nil))
	build := f.submit()
	content := strings.Repeat("0123456789abcdef", 1<<19) // 8 MiB
	f.addArtifact(f.start(build.ID), "bin/app", content)
	var w kernel
	f.listen(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w = kernel{ResponseWriter: rw}
		s.ServeHTTP(&w, r)
	}))
	for requested, want := range map[string]string{"bytes=0-": content, "bytes=100-5000099": content[100:5000100]} {
		r := f.call(viewer, "GET", artifactPath(build.ID, "bin/app"), nil, "Range", requested)
		f.want(r, http.StatusPartialContent, nil)
		if string(r.body) != want {
			t.Errorf("%s: got %d bytes, want %d", requested, len(r.body), len(want))
		}
		if w.files != 2 || w.others != 0 {
			t.Errorf("%s: %d pieces of the file and %d of something else, want 2 and 0", requested, w.files, w.others)
		}
	}
}

// A kernel counts what it is given to copy.
type kernel struct {
	http.ResponseWriter
	files, others int
}

func (k *kernel) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (k *kernel) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if ok {
		_, ok = limited.R.(*os.File)
	}
	if ok {
		k.files++
	} else {
		k.others++
	}
	return io.Copy(k.ResponseWriter, r)
}
