package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/slipway-build/slipway/queue"
)

// Errors of requests that no package below knows.
var (
	// ErrUnauthorized says that a credential or build token is missing, wrong, or no longer good.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden says that the credential is good but does not allow this.
	ErrForbidden = errors.New("forbidden")
	// ErrUnavailable says that the service cannot answer at the moment.
	ErrUnavailable = errors.New("unavailable")
)

// A Problem is an error as it goes over HTTP: an RFC 9457 problem document with a stable code. It never carries anything internal.
// As an error, on the side that received it, it is ([errors.Is]) the sentinel that was the cause on the other side.
type Problem struct {
	// Type is "about:blank": the code tells problems apart.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	// Detail says what to do, if there is more to say than the title.
	Detail string `json:"detail,omitempty"`
	// Supported are the versions of the worker protocol that a controller speaks, by the names of their subprotocols, the highest
	// first, where it refused a handshake.
	Supported []string `json:"supported,omitempty"`
	// Worker is whom the credential was given for, where a controller refused a handshake whose credential is good.
	Worker string `json:"worker,omitempty"`
	// RequestID is what the service's log has for this request.
	RequestID string `json:"request_id,omitempty"`
}

// Codes of handshakes that were refused: because the two sides have no version in common, which no other attempt changes, or because the
// request was no handshake when it arrived, as happens behind a proxy that knows no WebSocket.
const (
	codeVersion   = "unsupported_version"
	codeHandshake = "handshake"
)

// problems is the only place where errors meet statuses and codes.
var problems = []struct {
	err    error
	status int
	code   string
	title  string
}{
	{queue.ErrInvalid, http.StatusBadRequest, "invalid", "The request is not valid."},
	{ErrUnauthorized, http.StatusUnauthorized, "unauthorized", "The credential is missing, wrong, or no longer good."},
	{ErrForbidden, http.StatusForbidden, "forbidden", "The credential does not allow this."},
	{queue.ErrNotFound, http.StatusNotFound, "not_found", "There is no such object."},
	{ErrBlobNotFound, http.StatusNotFound, "not_found", "There is no such object."},
	{queue.ErrStaleLease, http.StatusConflict, "stale_lease", "The attempt's lease is over."},
	{queue.ErrFinished, http.StatusConflict, "finished", "The build has finished."},
	{queue.ErrConflict, http.StatusConflict, "conflict", "An object of that name exists with other content."},
	{queue.ErrGap, http.StatusConflict, "gap", "Bytes before these are missing."},
	{ErrBlobTooLarge, http.StatusRequestEntityTooLarge, "too_large", "The content is too large."},
	{ErrBlobMismatch, http.StatusUnprocessableEntity, "digest_mismatch", "The content does not match its size or digest."},
	{ErrNoSpace, http.StatusInsufficientStorage, "no_space", "The storage is full."},
	{queue.ErrQuota, http.StatusInsufficientStorage, "quota_exceeded", "The project has no room for that."},
	{queue.ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "The service cannot answer at the moment; try again."},
	{ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "The service cannot answer at the moment; try again."},
	// A context that ended there did not end here: these two do not come out of the wire again.
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "unavailable", "The service cannot answer at the moment; try again."},
	{context.Canceled, http.StatusServiceUnavailable, "unavailable", "The service cannot answer at the moment; try again."},
}

// ProblemFor returns the problem that err is for a client. What it does not know is an internal error, of which nothing is said; the
// caller logs it. Only the text of what wraps [queue.ErrInvalid] becomes the detail.
func ProblemFor(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	for _, known := range problems {
		if !errors.Is(err, known.err) {
			continue
		}
		p := &Problem{Type: "about:blank", Title: known.title, Status: known.status, Code: known.code}
		if errors.Is(known.err, queue.ErrInvalid) {
			p.Detail = detail(err)
		}
		return p
	}
	return &Problem{
		Type: "about:blank", Title: "Something went wrong here.", Status: http.StatusInternalServerError, Code: "internal",
	}
}

// detail returns the text of an invalid argument without the operation that refused it.
func detail(err error) string {
	if e, ok := errors.AsType[*queue.Error](err); ok {
		err = e.Err
	}
	return err.Error()
}

// Error implements error.
func (p *Problem) Error() string {
	text := p.Title
	if p.Detail != "" {
		text = p.Detail
	}
	if p.RequestID != "" {
		text += " (request " + p.RequestID + ")"
	}
	return text
}

// Is reports whether target is a sentinel with p's code.
func (p *Problem) Is(target error) bool {
	for _, known := range problems {
		if known.err == target && known.code == p.Code {
			return known.err != context.Canceled && known.err != context.DeadlineExceeded
		}
	}
	return false
}

// Write sends p as the answer. The request id is the one that a middleware has set in the header X-Request-Id of the answer, if any.
func (p *Problem) Write(w http.ResponseWriter) {
	answer := *p
	if answer.RequestID == "" {
		answer.RequestID = w.Header().Get("X-Request-Id")
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	switch answer.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", "5")
		}
	}
	w.WriteHeader(answer.Status)
	if body, err := json.Marshal(&answer); err == nil {
		_, _ = w.Write(body) // a client that has gone needs no answer
	}
}

// ReadProblem makes a problem of a response whose status tells of an error. A body that is no problem document is left out. It
// does not close the body.
func ReadProblem(r *http.Response) *Problem {
	const most = 16 << 10
	p := &Problem{}
	body, err := io.ReadAll(io.LimitReader(r.Body, most))
	if err != nil || json.Unmarshal(body, p) != nil || p.Title == "" {
		p = &Problem{Type: "about:blank", Title: "The service answered " + r.Status + "."}
	}
	p.Status = r.StatusCode
	if p.Code == "" {
		for _, known := range problems {
			if known.status == p.Status {
				p.Code = known.code
				break
			}
		}
	}
	return p
}
