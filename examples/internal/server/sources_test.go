package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/examples/internal/server"
	"github.com/slipway-build/slipway/storage"
)

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func TestSources(t *testing.T) {
	f := newFixture(t, nil)
	path := "/v1/sources/" + someDigest
	f.want(f.call(submitter, "HEAD", path, nil), http.StatusNotFound, nil)
	f.want(f.call(submitter, "PUT", path, strings.NewReader("abc")), http.StatusCreated, nil)
	f.want(f.call(submitter, "PUT", path, strings.NewReader("abc")), http.StatusOK, nil) // it is there
	r := f.call(submitter, "HEAD", path, nil)
	f.want(r, http.StatusOK, nil)
	if r.ContentLength != 3 {
		t.Errorf("Content-Length %d", r.ContentLength)
	}
	f.want(f.call(admin, "HEAD", path+"?project=web", nil), http.StatusOK, nil)
	f.want(f.call(submitter, "PUT", "/v1/sources/"+digestOf(""), strings.NewReader("")), http.StatusCreated, nil)
	// What is there has another size than what is sent: one of the two is not what it says.
	f.wantProblem(f.call(submitter, "PUT", path, strings.NewReader("abcd")), http.StatusUnprocessableEntity, "digest_mismatch")
}

func TestSourceLimit(t *testing.T) {
	f := newFixture(t, &server.Options{MaxSource: 1000})
	put := func(size int) *reply {
		content := strings.Repeat("x", size)
		return f.call(submitter, "PUT", "/v1/sources/"+digestOf(content), strings.NewReader(content))
	}
	f.want(put(999), http.StatusCreated, nil)
	f.want(put(1000), http.StatusCreated, nil)
	f.wantProblem(put(1001), http.StatusRequestEntityTooLarge, "too_large")
	f.wantProblem(put(1<<20), http.StatusRequestEntityTooLarge, "too_large")
	for _, size := range []int{999, 1000, 1001, 1 << 20} { // chunked, and so of a length that nobody has declared
		content := strings.Repeat("y", size)
		r := f.call(submitter, "PUT", "/v1/sources/"+digestOf(content), io.MultiReader(strings.NewReader(content)))
		f.wantProblem(r, http.StatusLengthRequired, "length_required")
	}
	stored := 0
	for _, err := range f.store.All(t.Context()) {
		f.check(err)
		stored++
	}
	if stored != 2 {
		t.Errorf("%d blobs are stored, want 2", stored)
	}
}

func TestSourceMismatch(t *testing.T) {
	f := newFixture(t, nil)
	for _, content := range []string{"", "ab", "abd", "abcd", strings.Repeat("z", 100_000)} {
		r := f.call(submitter, "PUT", "/v1/sources/"+someDigest, strings.NewReader(content))
		f.wantProblem(r, http.StatusUnprocessableEntity, "digest_mismatch")
	}
	f.wantEmptyStore()
}

func TestSourceNoSpace(t *testing.T) {
	f := newFixture(t, nil)
	f.storeBackend.set(fmt.Errorf("write /var/lib/x: %w", storage.ErrNoSpace))
	r := f.call(submitter, "PUT", "/v1/sources/"+someDigest, strings.NewReader("abc"))
	f.wantProblem(r, http.StatusInsufficientStorage, "no_space")
}

// TestSourceStall sends a part of a source and then nothing.
func TestSourceStall(t *testing.T) {
	f := newFixture(t, &server.Options{StallTimeout: 50 * time.Millisecond})
	conn := f.dial()
	fmt.Fprintf(conn, "PUT /v1/sources/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\nabc", someDigest, f.secrets[submitter])
	answer := string(must(io.ReadAll(conn)))
	if !strings.HasPrefix(answer, "HTTP/1.1 408 ") || !strings.Contains(answer, `"code":"timeout"`) {
		t.Errorf("got %s", answer)
	}
	f.wantEmptyStore()
}

// TestUnreadBody: a body that nobody waits for holds nobody up, although package net/http wants to read it.
func TestUnreadBody(t *testing.T) {
	f := newFixture(t, &server.Options{BodyTimeout: 50 * time.Millisecond})
	for _, target := range []string{
		"POST /v1/builds", "PUT /v1/sources/" + someDigest, "GET /v1/builds", "GET /livez", "POST /v1/nothing",
		"POST /v1/worker/builds/" + f.submit().ID.String() + "/1/artifacts",
	} {
		conn := f.dial()
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc", target)
		answer := must(io.ReadAll(conn)) // until the server gives the connection up
		if !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
			t.Errorf("%s: %s", target, answer)
		}
	}
}
