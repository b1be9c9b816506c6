package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

type requestIDKey struct{}

// requestID returns the id under which a request is logged.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

const headerRequestID = "X-Request-Id"

// observe gives a request its id, writes it down, and keeps a panic in it from the rest of the process.
func (s *Server) observe(w http.ResponseWriter, r *http.Request, next http.Handler) {
	started := time.Now()
	id := r.Header.Get(headerRequestID)
	if !saneID(id) {
		id = rand.Text()
	}
	r = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
	h := w.Header()
	h.Set(headerRequestID, id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if r.ContentLength != 0 {
		// Package net/http reads what a handler has left of a body, however long that takes. Uploads move the deadline on.
		_ = http.NewResponseController(w).SetReadDeadline(started.Add(s.opts.BodyTimeout))
	}
	meter := &meter{ResponseWriter: w}
	defer func() {
		s.opts.Logger.DebugContext(r.Context(), "request", "request_id", id, "method", r.Method, "path", r.URL.Path,
			"status", meter.status, "bytes", meter.bytes, "duration", time.Since(started))
	}()
	defer func() { s.recovered(meter, r, recover()) }()
	next.ServeHTTP(meter, r)
}

// recovered answers a request whose handler has panicked, if nothing of an answer is on its way.
func (s *Server) recovered(w *meter, r *http.Request, p any) {
	if p == nil {
		return
	}
	err, _ := p.(error)
	abort := errors.Is(err, http.ErrAbortHandler)
	if !abort {
		s.opts.Logger.ErrorContext(r.Context(), "panic while serving a request", "request_id", requestID(r.Context()),
			"method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
	if w.status != 0 || abort {
		panic(http.ErrAbortHandler)
	}
	s.answer(w, r, fmt.Errorf("panic: %v", p))
}

// saneID reports whether a client's id is fit for logs and headers.
func saneID(id string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	return id != "" && len(id) <= 64 && strings.Trim(id, letters) == ""
}

// A meter counts what is answered.
type meter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// Unwrap lets [http.ResponseController] find the connection.
func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (m *meter) WriteHeader(status int) {
	if m.status == 0 && status >= http.StatusOK {
		m.status = status
	}
	m.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (m *meter) Write(b []byte) (int, error) {
	m.begin()
	n, err := m.ResponseWriter.Write(b)
	m.bytes += int64(n)
	return n, err
}

// ReadFrom implements [io.ReaderFrom], so that the kernel can send a file by itself.
func (m *meter) ReadFrom(r io.Reader) (int64, error) {
	m.begin()
	n, err := io.Copy(m.ResponseWriter, r)
	m.bytes += n
	return n, err
}

func (m *meter) begin() {
	if m.status == 0 {
		m.status = http.StatusOK
	}
}
