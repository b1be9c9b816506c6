package worker

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/token"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// newTestCourier returns a courier to a server that answers each request with the next of the handlers, the last of which stays.
func newTestCourier(t *testing.T, handlers ...http.HandlerFunc) *courier {
	t.Helper()
	requests := make(chan http.HandlerFunc, len(handlers))
	for _, h := range handlers[:len(handlers)-1] {
		requests <- h
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case h := <-requests:
			h(w, r)
		default:
			handlers[len(handlers)-1](w, r)
		}
	}))
	t.Cleanup(server.Close)
	base, err := parseBase(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(&AgentOptions{DialTimeout: time.Second, StallTimeout: time.Second})
	t.Cleanup(client.CloseIdleConnections)
	return &courier{
		client: client, base: func() *url.URL { return base }, token: token.New(queue.NewID(), 1),
		stall: 200 * time.Millisecond, patience: 2 * time.Second,
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	const content = "0123456789"
	whole := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+queue.Digest(sha256.Sum256([]byte(content))).String()+`"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	}
	answer := func(status int, header, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", header)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	broken := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, content[:4])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	rest := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "bytes=4-" || r.Header.Get("If-Range") == "" {
			t.Errorf("asked for the rest with Range %q and If-Range %q", r.Header.Get("Range"), r.Header.Get("If-Range"))
		}
		whole(w, r)
	}
	stalled := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, content[:4])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for name, test := range map[string]struct {
		handlers []http.HandlerFunc
		want     error // nil: the content
	}{
		"at once":                  {[]http.HandlerFunc{whole}, nil},
		"after trouble":            {[]http.HandlerFunc{answer(503, "", ""), answer(500, "", ""), answer(429, "", ""), whole}, nil},
		"resumed":                  {[]http.HandlerFunc{broken, rest}, nil},
		"stalled and resumed":      {[]http.HandlerFunc{stalled, rest}, nil},
		"resumed from the start":   {[]http.HandlerFunc{broken, answer(200, "", content)}, nil},
		"resumed from elsewhere":   {[]http.HandlerFunc{broken, answer(206, "bytes 5-9/10", content[5:])}, errAny},
		"too short":                {[]http.HandlerFunc{answer(200, "", content[:9]), answer(416, "", "")}, errBadSource},
		"too long":                 {[]http.HandlerFunc{answer(200, "", content+"x")}, errBadSource},
		"another content":          {[]http.HandlerFunc{answer(200, "", "9876543210")}, errBadSource},
		"refused":                  {[]http.HandlerFunc{answer(401, "", ""), whole}, ErrUnauthorized},
		"moved to another address": {[]http.HandlerFunc{answer(302, "", ""), whole}, errAny},
		"never there":              {[]http.HandlerFunc{answer(503, "", "")}, ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTestCourier(t, test.handlers...)
			file, err := os.Create(filepath.Join(t.TempDir(), "source"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			source := wire.Source{URL: "/source", Size: int64(len(content)), SHA256: sha256.Sum256([]byte(content))}
			err = c.download(t.Context(), source, file)
			if test.want != nil {
				if err == nil || !errors.Is(test.want, errAny) && !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				return
			}
			if got, readErr := os.ReadFile(file.Name()); err != nil || readErr != nil || string(got) != content {
				t.Errorf("got %q, %v, %v", got, err, readErr)
			}
		})
	}
}

// errAny stands for whatever error.
var errAny = errors.New("any error")

func TestResolve(t *testing.T) {
	for _, test := range []struct{ base, path, want string }{
		{"http://host", "/v1/x", "http://host/v1/x"},
		{"https://host:8443/ci", "/v1/x?a=b", "https://host:8443/ci/v1/x?a=b"},
		{"http://host/ci/", "/v1/a%2Fb/%C3%BC%23", "http://host/ci/v1/a%2Fb/%C3%BC%23"},
		{"http://host", "", ""},
		{"http://host", "v1/x", ""},
		{"http://host", "//other/x", ""},
		{"http://host", "http://other/x", ""},
		{"http://host", "/%zz", ""},
	} {
		base, err := parseBase(test.base)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if target, err := resolve(base, test.path); err == nil {
			got = target.String()
		}
		if got != test.want {
			t.Errorf("%q below %s: %q, want %q", test.path, test.base, got, test.want)
		}
	}
}
