package worker_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/internal/token"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

func digest(content string) queue.Digest { return sha256.Sum256([]byte(content)) }

func reprDigest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// attemptURL is the path below which a controller has what belongs to an attempt.
func attemptURL(ref wire.Ref) string {
	return fmt.Sprintf("/v1/worker/builds/%v/%d", ref.Build, ref.Epoch)
}

// request sends a request to a controller. The caller closes the body of the answer.
func (c *controller) request(t *testing.T, method, path, token string, body io.Reader, edit func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.server.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if edit != nil {
		edit(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer
}

// do sends a request and returns the problem in the answer, or just the status.
func (c *controller) do(t *testing.T, method, path, token, body string, edit func(*http.Request)) *worker.Problem {
	t.Helper()
	answer := c.request(t, method, path, token, strings.NewReader(body), edit)
	defer answer.Body.Close()
	if answer.StatusCode < 400 {
		return &worker.Problem{Status: answer.StatusCode}
	}
	if kind := answer.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("%s %s: the answer %d is %q", method, path, answer.StatusCode, kind)
	}
	return worker.ReadProblem(answer)
}

func TestSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	const content = "0123456789"
	source := w.blob([]byte(content))
	w.submit(func(b *queue.Params) { b.Source = source })
	offer, token := p.take()
	tag := `"` + source.Digest.String() + `"`
	for name, test := range map[string]struct {
		header http.Header
		status int
		body   string
	}{
		"whole":             {nil, 200, content},
		"range":             {http.Header{"Range": {"bytes=2-5"}}, 206, "2345"},
		"rest":              {http.Header{"Range": {"bytes=7-"}, "If-Range": {tag}}, 206, "789"},
		"rest of another":   {http.Header{"Range": {"bytes=7-"}, "If-Range": {`"other"`}}, 200, content},
		"beyond the end":    {http.Header{"Range": {"bytes=10-"}}, 416, ""},
		"nothing new in it": {http.Header{"If-None-Match": {tag}}, 304, ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer := c.request(t, http.MethodGet, offer.Source.URL, token.Reveal(), nil, func(r *http.Request) {
				maps.Copy(r.Header, test.header)
			})
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != test.status || test.body != "" && string(body) != test.body {
				t.Errorf("answer %d %q, %v; want %d %q", answer.StatusCode, body, err, test.status, test.body)
			}
			if got := answer.Header.Get("ETag"); answer.StatusCode < 400 && got != tag {
				t.Errorf("ETag %s, want %s", got, tag)
			}
			if got := answer.Header.Get("Repr-Digest"); answer.StatusCode < 300 && got != reprDigest(content) {
				t.Errorf("Repr-Digest %s, want %s", got, reprDigest(content))
			}
		})
	}
}

// TestTokens tries to get at an attempt's source and artifacts without its token, and with it when the attempt is over.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	one, two := c.dial(t, "one"), c.dial(t, "two")
	one.enter("one", queue.NewID())
	two.enter("two", queue.NewID())
	w.submit(func(b *queue.Params) { b.Source = w.source(map[string]string{"a": "b"}) })
	w.submit(func(b *queue.Params) { b.Source = w.source(map[string]string{"c": "d"}) })
	mine, good := one.take()
	foreign, other := two.take()
	body := `{"name":"a","size":0,"sha256":"` + digest("").String() + `"}`
	everything := func(ref wire.Ref, text string, want int) {
		t.Helper()
		for _, request := range []string{"GET /source", "POST /artifacts", "PUT /artifacts/a"} {
			method, path, _ := strings.Cut(request, " ")
			content := ""
			if method == http.MethodPost {
				content = body
			}
			answer := c.do(t, method, attemptURL(ref)+path, text, content, func(r *http.Request) {
				r.Header.Set("Repr-Digest", reprDigest(""))
			})
			if good := answer.Status < 300; good != (want == 0) || !good && answer.Status != want {
				t.Errorf("%s was answered with %d, want %d", request, answer.Status, want)
			}
		}
	}
	everything(mine.Ref, "", 401)
	everything(mine.Ref, "nonsense", 401)
	everything(mine.Ref, secret+"_one", 401)
	everything(mine.Ref, other.Reveal(), 401)
	everything(mine.Ref, token.New(mine.Build, mine.Epoch).Reveal(), 401) // of the right form, with another secret
	everything(foreign.Ref, good.Reveal(), 401)
	everything(wire.Ref{Build: mine.Build, Epoch: mine.Epoch + 1}, good.Reveal(), 401)
	everything(wire.Ref{Build: queue.NewID(), Epoch: 1}, good.Reveal(), 401)
	everything(mine.Ref, good.Reveal(), 0)
	one.send(finished(mine.Ref, ""))
	expect[*wire.FinishedOK](one)
	everything(mine.Ref, good.Reveal(), 401)
	if b := w.build(foreign.Build); b.State != queue.Running {
		t.Errorf("the other build is %v", b.State)
	}
}

// A watched body notes whether it was read.
type watched struct {
	io.Reader
	read bool
}

func (b *watched) Read(p []byte) (int, error) {
	b.read = true
	return b.Reader.Read(p)
}

func TestUploads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	full := &fullBlobs{Blobs: w.blobs}
	w.blobs = full
	c := w.controller(func(o *worker.HubOptions) { o.MaxArtifact = 1000 })
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	offer, token := p.take()
	base := attemptURL(offer.Ref)
	exact, above := strings.Repeat("x", 1000), strings.Repeat("x", 1001)
	create := func(name, content string) *worker.Problem {
		t.Helper()
		body := fmt.Sprintf(`{"name":%q,"size":%d,"sha256":%q}`, name, len(content), digest(content))
		return c.do(t, http.MethodPost, base+"/artifacts", token.Reveal(), body, nil)
	}
	put := func(name, content, declared string) *worker.Problem {
		t.Helper()
		return c.do(t, http.MethodPut, base+"/artifacts/"+name, token.Reveal(), content, func(r *http.Request) {
			r.Header.Set("Repr-Digest", reprDigest(declared))
		})
	}
	check := func(what string, got *worker.Problem, status int, code string) {
		t.Helper()
		if got.Status != status || got.Code != code {
			t.Errorf("%s was answered with %d %q, want %d %q", what, got.Status, got.Code, status, code)
		}
	}
	check("creating one of 1001 bytes", create("large", above), 413, "too_large")
	check("creating one of 1000 bytes", create("exact", exact), 201, "")
	check("sending it", put("exact", exact, exact), 204, "")
	check("sending it again", put("exact", exact, exact), 204, "")
	check("creating it again", create("exact", exact), 200, "")
	check("creating it with other content", create("exact", "other"), 409, "conflict")
	check("creating another of the same content", create("same", exact), 200, "")
	check("creating one with a bad name", create("../up", "x"), 400, "invalid")
	check("sending one with a wrong digest", put("wrong", "this", "that"), 422, "digest_mismatch")
	check("sending one without a digest", c.do(t, http.MethodPut, base+"/artifacts/none", token.Reveal(), "x", nil), 400, "invalid")
	check("sending one in chunks", c.do(t, http.MethodPut, base+"/artifacts/none", token.Reveal(), "x", func(r *http.Request) {
		r.ContentLength = -1
		r.Header.Set("Repr-Digest", reprDigest("x"))
	}), 411, "length_required")
	check("creating with an unknown field", c.do(t, http.MethodPost, base+"/artifacts", token.Reveal(), `{"nome":"a"}`, nil), 400, "invalid")
	full.full.Store(true)
	check("sending one to a full storage", put("full", "full", "full"), 507, "no_space")
	full.full.Store(false)

	body := &watched{Reader: strings.NewReader(above)}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.server.URL+base+"/artifacts/large", body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = int64(len(above))
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	r.Header.Set("Repr-Digest", reprDigest(above))
	r.Header.Set("Expect", "100-continue")
	answer, err := (&http.Client{Transport: &http.Transport{ExpectContinueTimeout: patient, DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestEntityTooLarge || body.read {
		t.Errorf("sending one of 1001 bytes was answered with %d, after reading some of it: %t", answer.StatusCode, body.read)
	}

	artifacts, err := w.queue.Artifacts(t.Context(), project, queue.AttemptID{Build: id})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range artifacts {
		names = append(names, a.Name)
	}
	if got := strings.Join(names, " "); got != "exact same" {
		t.Errorf("artifacts %q, want exact and same", got)
	}
}

// TestUploadOfStaleLease ends an attempt while one of its artifacts is on its way.
func TestUploadOfStaleLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun := make(chan struct{}, 1)
	w.blobs = &fullBlobs{Blobs: w.blobs, begun: begun}
	c := w.controller(nil)
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	offer, token := p.take()
	reader, writer := io.Pipe()
	answered := make(chan int, 1)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.server.URL+attemptURL(offer.Ref)+"/artifacts/a", reader)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 4
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	r.Header.Set("Repr-Digest", reprDigest("late"))
	go func() {
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			answered <- 0
			return
		}
		answer.Body.Close()
		answered <- answer.StatusCode
	}()
	if _, err := io.WriteString(writer, "la"); err != nil {
		t.Fatal(err)
	}
	receive(t, "the beginning of the upload", begun)
	p.send(finished(offer.Ref, ""))
	expect[*wire.FinishedOK](p)
	if _, err := io.WriteString(writer, "te"); err != nil {
		t.Fatal(err)
	}
	if status := receive(t, "the answer", answered); status != 401 {
		t.Errorf("answered with %d, want 401", status)
	}
	artifacts, err := w.queue.Artifacts(t.Context(), project, queue.AttemptID{Build: id})
	if err != nil || len(artifacts) != 0 {
		t.Errorf("artifacts %v, %v; want none", artifacts, err)
	}
}

// TestProblemsSurviveTheWire sends each kind of error and looks whether the other side gets the same sentinel.
func TestProblemsSurviveTheWire(t *testing.T) {
	for _, sentinel := range []error{
		queue.ErrInvalid, queue.ErrNotFound, queue.ErrStaleLease, queue.ErrFinished, queue.ErrConflict, queue.ErrGap,
		worker.ErrUnauthorized, worker.ErrForbidden, worker.ErrUnavailable, worker.ErrBlobNotFound, worker.ErrBlobTooLarge,
		worker.ErrBlobMismatch, worker.ErrNoSpace, queue.ErrQuota,
	} {
		var sent bytes.Buffer
		problem := worker.ProblemFor(fmt.Errorf("/secret/path: %w", sentinel))
		header := http.Header{}
		problem.Write(recorder{&sent, header})
		got := worker.ReadProblem(&http.Response{StatusCode: problem.Status, Body: io.NopCloser(&sent)})
		if !errors.Is(got, sentinel) || errors.Is(got, context.Canceled) {
			t.Errorf("%v arrives as %+v", sentinel, got)
		}
		if !errors.Is(sentinel, queue.ErrInvalid) && strings.Contains(got.Error(), "secret") {
			t.Errorf("%v arrives with internals: %v", sentinel, got)
		}
	}
	if got := worker.ProblemFor(errors.New("/secret/path")); got.Status != 500 || strings.Contains(got.Error(), "secret") {
		t.Errorf("an unknown error is %+v", got)
	}
}

// TestMissingSocketIsNotFinal has a database on a Unix socket that is being restarted. No object is missing: a worker would take that for
// final.
func TestMissingSocketIsNotFinal(t *testing.T) {
	_, err := new(net.Dialer).DialContext(t.Context(), "unix", "no-such-socket")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("dial: %v, want ErrNotExist", err)
	}
	if got := worker.ProblemFor(&queue.Error{Op: "lease", Err: err}); got.Status != http.StatusInternalServerError {
		t.Errorf("%v is answered with %+v", err, got)
	}
}

type recorder struct {
	io.Writer
	header http.Header
}

func (r recorder) Header() http.Header { return r.header }
func (recorder) WriteHeader(int)       {}
