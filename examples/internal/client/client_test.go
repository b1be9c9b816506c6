package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/client"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// A transport is a handler that is asked without a network, so that time can be that of a bubble.
type transport struct{ http.Handler }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	done := make(chan error, 1)
	func() {
		defer func() {
			if p := recover(); p != nil {
				done <- io.ErrUnexpectedEOF
			}
			close(done)
		}()
		t.ServeHTTP(w, r)
	}()
	if err := <-done; err != nil {
		return nil, err
	}
	_ = r.Body.Close()
	resp := w.Result()
	resp.Request = r
	if w.Header().Get("Test-Cut") != "" {
		resp.Body = io.NopCloser(io.MultiReader(w.Body, cut{}))
	}
	return resp, nil
}

// cut is the end of a connection in the middle of a body.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func newClient(t *testing.T, h http.Handler, o client.Options) *client.Client {
	t.Helper()
	o.Transport = transport{h}
	c, err := client.New("http://controller.test/base/", "the-key", &o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func TestNew(t *testing.T) {
	for _, url := range []string{"", "localhost:8080", "ftp://h", "http://", "http://u:p@h", "http://h?x=1", "http://h/#f", "://", "http://h\n"} {
		if _, err := client.New(url, "k", nil); err == nil {
			t.Errorf("%q is taken for the address of a controller", url)
		}
	}
	if _, err := client.New("http://h", "two words", nil); err == nil || strings.Contains(err.Error(), "two") {
		t.Errorf("a key with a space: got %v", err)
	}
}

func TestRequest(t *testing.T) {
	var seen *http.Request
	c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		answer(w, api.BuildPage{NextCursor: "next"})
	}), client.Options{Project: "web"})
	page, err := c.Builds(t.Context(), client.Filter{States: []string{"failed", "lost"}, Pool: "p", Limit: 7, Cursor: "a b"})
	if err != nil || page.NextCursor != "next" {
		t.Fatalf("got %+v, %v", page, err)
	}
	want := "/base/v1/builds?cursor=a+b&limit=7&pool=p&project=web&state=failed&state=lost"
	if got := seen.URL.RequestURI(); got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	if got := seen.Header.Get("Authorization"); got != "Bearer the-key" {
		t.Errorf("presented %q", got)
	}
}

func TestProblemsAreSentinels(t *testing.T) {
	for _, sentinel := range []error{
		queue.ErrInvalid, queue.ErrNotFound, queue.ErrFinished, worker.ErrUnauthorized, worker.ErrForbidden, worker.ErrBlobTooLarge, worker.ErrNoSpace,
	} {
		c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			worker.ProblemFor(fmt.Errorf("inside: %w", sentinel)).Write(w)
		}), client.Options{})
		_, err := c.Cancel(t.Context(), queue.NewID(), "")
		if !errors.Is(err, sentinel) {
			t.Errorf("%v comes back as %v", sentinel, err)
		}
		if _, ok := errors.AsType[*client.Error](err); !ok {
			t.Errorf("%v is a %T", err, err)
		}
	}
}

func TestNoController(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.test/", http.StatusFound)
		},
		"a not found": http.NotFound,
	} {
		if _, err := newClient(t, h, client.Options{}).Build(t.Context(), queue.NewID()); err == nil {
			t.Errorf("%s is taken for a build", name)
		}
	}
}

func TestRetry(t *testing.T) {
	tests := []struct {
		name     string
		status   int // zero: the connection breaks
		attempts int
		asked    int
	}{
		{"broken connection", 0, 0, 4},
		{"unavailable", http.StatusServiceUnavailable, 3, 3},
		{"too many", http.StatusTooManyRequests, 2, 2},
		{"gateway", http.StatusBadGateway, 2, 2},
		{"not found", http.StatusNotFound, 9, 1},
		{"unauthorized", http.StatusUnauthorized, 9, 1},
		{"full", http.StatusInsufficientStorage, 9, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					asked++
					if test.status == 0 {
						panic(http.ErrAbortHandler)
					}
					w.WriteHeader(test.status)
				}), client.Options{Attempts: test.attempts})
				_, err := c.Build(t.Context(), queue.NewID())
				if err == nil || asked != test.asked {
					t.Errorf("asked %d times, want %d; the error is %v", asked, test.asked, err)
				}
				if test.status == 0 && !errors.Is(err, client.ErrUnreachable) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outages []string
		asked, begun := 0, time.Now()
		c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if asked++; asked < 3 {
				w.Header().Set("Retry-After", "20")
				worker.ProblemFor(worker.ErrUnavailable).Write(w)
				return
			}
			answer(w, api.Build{ID: queue.NewID(), State: "pending"})
		}), client.Options{OnOutage: func(err error) { outages = append(outages, fmt.Sprint(err != nil)) }})
		if _, err := c.Patient().Build(t.Context(), queue.NewID()); err != nil {
			t.Fatal(err)
		}
		if passed := time.Since(begun); passed != 40*time.Second {
			t.Errorf("came back after %v, want 40s", passed)
		}
		if !slices.Equal(outages, []string{"true", "false"}) {
			t.Errorf("OnOutage was told %v", outages)
		}
	})
}

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		c := newClient(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), client.Options{})
		if _, err := c.Patient().Wait(ctx, queue.NewID()); err == nil || ctx.Err() == nil {
			t.Errorf("gave up before the context's end: %v", err)
		}
	})
}

// The answer to the first submit is lost: the second is refused because the build is there, and finds it.
func TestSubmitTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored := map[string]api.Build{}
		var sent []string
		mux := http.NewServeMux()
		mux.HandleFunc("POST /base/v1/builds", func(w http.ResponseWriter, r *http.Request) {
			var b api.NewBuild
			if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
				t.Error(err)
			}
			sent = append(sent, b.ID)
			if _, ok := stored[b.ID]; ok {
				worker.ProblemFor(queue.ErrConflict).Write(w)
				return
			}
			id, err := queue.ParseID(b.ID)
			if err != nil {
				t.Error(err)
			}
			stored[b.ID] = api.Build{ID: id, Pool: b.Pool, State: "pending"}
			panic(http.ErrAbortHandler)
		})
		mux.HandleFunc("GET /base/v1/builds/{id}", func(w http.ResponseWriter, r *http.Request) { answer(w, stored[r.PathValue("id")]) })
		got, err := newClient(t, mux, client.Options{}).Submit(t.Context(), api.NewBuild{Pool: "linux", Spec: []byte("{}")})
		if err != nil || got.Pool != "linux" || len(stored) != 1 || len(sent) != 2 || sent[0] != sent[1] {
			t.Errorf("got %+v, %v; stored %v; sent %v", got, err, stored, sent)
		}
	})
}

func TestSubmitTakenElsewhere(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /base/v1/builds", func(w http.ResponseWriter, _ *http.Request) { worker.ProblemFor(queue.ErrConflict).Write(w) })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { worker.ProblemFor(queue.ErrNotFound).Write(w) })
	_, err := newClient(t, mux, client.Options{}).Submit(t.Context(), api.NewBuild{})
	if !errors.Is(err, queue.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if _, err := newClient(t, mux, client.Options{}).Submit(t.Context(), api.NewBuild{ID: "x"}); !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestCreateKeyOnce(t *testing.T) {
	asked := 0
	c := newClient(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked++
		panic(http.ErrAbortHandler)
	}), client.Options{})
	if _, err := c.CreateKey(t.Context(), api.NewKey{}); err == nil || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

func TestPutSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := []byte("the archive")
		sum := sha256.Sum256(content)
		source := api.Source{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}
		stored := map[string][]byte{}
		puts := 0
		mux := http.NewServeMux()
		mux.HandleFunc("HEAD /base/v1/sources/{sha}", func(w http.ResponseWriter, r *http.Request) {
			if stored[r.PathValue("sha")] == nil {
				w.WriteHeader(http.StatusNotFound)
			}
		})
		mux.HandleFunc("PUT /base/v1/sources/{sha}", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if puts++; puts == 1 {
				panic(http.ErrAbortHandler)
			}
			if r.ContentLength != source.Size {
				t.Errorf("Content-Length is %d", r.ContentLength)
			}
			stored[r.PathValue("sha")] = body
			w.WriteHeader(http.StatusCreated)
		})
		c := newClient(t, mux, client.Options{})
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		for _, want := range []bool{false, true} {
			present, err := c.PutSource(t.Context(), source, open)
			if err != nil || present != want {
				t.Fatalf("got %v, %v; want %v", present, err, want)
			}
		}
		if !bytes.Equal(stored[source.SHA256], content) || puts != 2 {
			t.Errorf("stored %q by %d puts", stored[source.SHA256], puts)
		}
		missing := errors.New("no such file")
		_, err := c.PutSource(t.Context(), api.Source{SHA256: "aa"}, func() (io.ReadCloser, error) { return nil, missing })
		if !errors.Is(err, missing) {
			t.Errorf("got %v", err)
		}
	})
}

func TestFetch(t *testing.T) {
	content := []byte(strings.Repeat("0123456789", 1000))
	sum := sha256.Sum256(content)
	a := api.Artifact{Name: "dist/a b%.bin", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), Epoch: 3}
	whole := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+a.SHA256+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
	tests := []struct {
		name  string
		serve func(w http.ResponseWriter, r *http.Request, asked int)
		want  error
	}{
		{"whole", func(w http.ResponseWriter, r *http.Request, _ int) { whole(w, r) }, nil},
		{"cut again and again", func(w http.ResponseWriter, r *http.Request, asked int) {
			if asked < 9 {
				w.Header().Set("Test-Cut", "1")
				w = &limited{w, 700}
			}
			whole(w, r)
		}, nil},
		{"cut, then ranges are not known", func(w http.ResponseWriter, r *http.Request, asked int) {
			if asked == 1 {
				w.Header().Set("Test-Cut", "1")
				w = &limited{w, 700}
			}
			r.Header.Del("Range")
			whole(w, r)
		}, nil},
		{"other bytes", func(w http.ResponseWriter, _ *http.Request, _ int) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), len(content)))
		}, client.ErrDamaged},
		{"too few", func(w http.ResponseWriter, _ *http.Request, _ int) { _, _ = w.Write(content[1:]) }, client.ErrDamaged},
		{"too many", func(w http.ResponseWriter, _ *http.Request, _ int) {
			_, _ = w.Write(append(content[:len(content):len(content)], "more"...))
		}, client.ErrDamaged},
		{"gone", func(w http.ResponseWriter, _ *http.Request, _ int) { worker.ProblemFor(queue.ErrNotFound).Write(w) }, queue.ErrNotFound},
		{"never whole", func(http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) }, client.ErrUnreachable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				id := queue.NewID()
				c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if want := "/base/v1/builds/" + id.String() + "/artifacts/" + a.Name; r.URL.Path != want || r.URL.RawQuery != "epoch=3" {
						t.Errorf("asked for %s?%s", r.URL.Path, r.URL.RawQuery)
					}
					asked++
					test.serve(w, r, asked)
				}), client.Options{})
				var got bytes.Buffer
				err := c.Fetch(t.Context(), id, a, &got)
				if !errors.Is(err, test.want) || test.want == nil && !bytes.Equal(got.Bytes(), content) {
					t.Errorf("got %d bytes, %v; want %v", got.Len(), err, test.want)
				}
			})
		})
	}
	t.Run("disk full", func(t *testing.T) {
		asked := 0
		c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			whole(w, r)
		}), client.Options{})
		full := errors.New("no space")
		if err := c.Fetch(t.Context(), queue.NewID(), a, failing{full}); !errors.Is(err, full) || asked != 1 {
			t.Errorf("asked %d times: %v", asked, err)
		}
	})
}

// limited is a response that ends after a number of bytes.
type limited struct {
	http.ResponseWriter
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	_, err := l.ResponseWriter.Write(b[:n])
	return len(b), err
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A build is a build with logs that grow, behind the two routes that a reader of logs asks.
type build struct {
	mu   sync.Mutex
	logs []string // of epochs 1, 2, …
	// steps are done one after the other, each when all there is has been read.
	steps []func(*build)
	state api.Build
}

func (b *build) attempts() []api.Attempt {
	var all []api.Attempt
	for i, log := range b.logs {
		sum := sha256.Sum256([]byte(log))
		a := api.Attempt{Epoch: int64(i + 1), LogLength: int64(len(log)), LogSHA256: hex.EncodeToString(sum[:])}
		a.LogComplete = i == len(b.logs)-1 && b.state.State == "succeeded"
		all = append(all, a)
	}
	return all
}

func (b *build) step() {
	if len(b.steps) > 0 {
		b.steps[0](b)
		b.steps = b.steps[1:]
	}
}

func (b *build) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !strings.HasSuffix(r.URL.Path, "/log") {
		b.step()
		if b.state.Attempts == nil {
			view := b.state
			view.Attempts = b.attempts()
			answer(w, view)
			return
		}
		answer(w, b.state)
		return
	}
	query := r.URL.Query()
	epoch, offset := len(b.logs), 0
	fmt.Sscan(query.Get("offset"), &offset)
	if query.Has("epoch") {
		fmt.Sscan(query.Get("epoch"), &epoch)
	}
	if epoch > len(b.logs) {
		worker.ProblemFor(queue.ErrNotFound).Write(w)
		return
	}
	if epoch > 0 && offset == len(b.logs[epoch-1]) && epoch == len(b.logs) && b.state.State == "running" {
		b.step()
	}
	log := ""
	if epoch > 0 {
		log = b.logs[epoch-1]
	}
	closed := epoch < len(b.logs) || b.state.State == "succeeded"
	for name, value := range map[string]any{api.LogEpoch: epoch, api.LogOffset: offset, api.LogLength: len(log), api.LogClosed: closed} {
		w.Header().Set(name, fmt.Sprint(value))
	}
	io.WriteString(w, log[offset:min(offset+5, len(log))])
}

func grow(text string) func(*build) {
	return func(b *build) { b.logs[len(b.logs)-1] += text }
}

func state(name string) func(*build) { return func(b *build) { b.state.State = name } }

func attempt(b *build) {
	b.logs = append(b.logs, "")
	b.state.State = "running"
}

// read returns what a log yields as "epoch:text" for each epoch.
func read(t *testing.T, b *build, o client.LogOptions) (texts []string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b.state.ID = queue.NewID()
		c := newClient(t, b, client.Options{})
		var last client.LogPiece
		for piece, pieceErr := range c.Log(t.Context(), b.state.ID, o) {
			if pieceErr != nil {
				err = pieceErr
				break
			}
			if piece.Epoch != last.Epoch {
				texts = append(texts, fmt.Sprintf("%d:", piece.Epoch))
				last = client.LogPiece{Epoch: piece.Epoch}
			}
			if piece.Offset != last.Offset+int64(len(last.Data)) {
				t.Errorf("a piece at %d follows one of %d bytes at %d", piece.Offset, len(last.Data), last.Offset)
			}
			texts[len(texts)-1] += string(piece.Data)
			last = piece
		}
	})
	return texts, err
}

func TestLog(t *testing.T) {
	tests := []struct {
		name  string
		build build
		opts  client.LogOptions
		want  []string
		err   error
	}{
		{"no attempt", build{state: api.Build{State: "pending"}}, client.LogOptions{}, nil, nil},
		{"what there is", build{logs: []string{"old", "so far"}, state: api.Build{State: "running"}}, client.LogOptions{}, []string{"2:so far"}, nil},
		{"an older attempt", build{logs: []string{"old", "new"}, state: api.Build{State: "running"}}, client.LogOptions{Epoch: 1}, []string{"1:old"}, nil},
		{"no such attempt", build{logs: []string{"x"}, state: api.Build{State: "running"}}, client.LogOptions{Epoch: 9}, nil, queue.ErrNotFound},
		{
			"followed, no such attempt",
			build{logs: []string{"x"}, state: api.Build{State: "succeeded"}},
			client.LogOptions{Epoch: 9, Follow: true},
			nil, queue.ErrNotFound,
		},
		{"followed from before the start", build{
			state: api.Build{State: "pending"},
			steps: []func(*build){state("pending"), attempt, grow("one "), grow("two and three"), state("succeeded")},
		}, client.LogOptions{Follow: true}, []string{"1:one two and three"}, nil},
		{"attempted again", build{
			logs: []string{"half"}, state: api.Build{State: "running"},
			steps: []func(*build){func(b *build) { b.logs = append(b.logs, "") }, state("running"), grow("whole"), state("succeeded")},
		}, client.LogOptions{Follow: true}, []string{"1:half", "2:whole"}, nil},
		{
			"canceled before it began",
			build{state: api.Build{State: "pending"}, steps: []func(*build){state("pending"), state("canceled")}},
			client.LogOptions{Follow: true},
			nil, nil,
		},
		{"other length", build{logs: []string{"text"}, state: api.Build{State: "succeeded", Attempts: []api.Attempt{
			{Epoch: 1, LogLength: 5, LogComplete: true},
		}}}, client.LogOptions{}, []string{"1:text"}, client.ErrDamaged},
		{"other bytes", build{logs: []string{"text"}, state: api.Build{State: "succeeded", Attempts: []api.Attempt{
			{Epoch: 1, LogLength: 4, LogSHA256: "00", LogComplete: true},
		}}}, client.LogOptions{Follow: true}, []string{"1:text"}, client.ErrDamaged},
	}
	for i := range tests {
		test := &tests[i]
		t.Run(test.name, func(t *testing.T) {
			got, err := read(t, &test.build, test.opts)
			if !errors.Is(err, test.err) || !slices.Equal(got, test.want) {
				t.Errorf("got %q, %v; want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}
