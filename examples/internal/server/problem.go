package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// meanings leads the errors of package auth to those whose statuses and codes package worker knows. Package storeblobs does so for
// those of a storage.
var meanings = []struct{ err, means error }{
	{auth.ErrUnauthenticated, worker.ErrUnauthorized},
	{auth.ErrForbidden, worker.ErrForbidden},
	{auth.ErrNotFound, queue.ErrNotFound},
}

// meaning puts an error under the one that it means to clients.
func meaning(err error) error {
	if errors.Is(err, auth.ErrInvalid) {
		return invalid(ruleOf(err, auth.ErrInvalid))
	}
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			return fmt.Errorf("%w: %w", m.means, err)
		}
	}
	if disconnected(err) {
		return fmt.Errorf("%w: %w", worker.ErrUnavailable, err)
	}
	return err
}

// ruleOf is the text of an error of package auth that tells the caller which rule he broke, without the operation and the sentinel.
func ruleOf(err, sentinel error) string {
	if e, ok := errors.AsType[*auth.Error](err); ok {
		err = e.Err
	}
	return strings.TrimPrefix(err.Error(), sentinel.Error()+": ")
}

// disconnected reports whether an error is one of a connection to a backend, such as a database that is being restarted.
func disconnected(err error) bool {
	_, network := errors.AsType[*net.OpError](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// invalid is an error whose text is shown to the client.
func invalid(rule string) error { return fmt.Errorf("%w: %s", queue.ErrInvalid, rule) }

// Problems that only HTTP has.
var (
	errLengthRequired = newProblem(http.StatusLengthRequired, "length_required", "The length of the content must be declared.",
		"Send a Content-Length.")
	errSourceMissing = newProblem(http.StatusUnprocessableEntity, "source_missing", "The source is not in the storage of the project.",
		"Upload it first.")
	errNotEnded = newProblem(http.StatusConflict, "not_ended", "The build has not ended.", "Cancel it, or wait for its end.")
	errRange    = newProblem(http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable", "The content has no such range.", "")
	errTaken    = newProblem(http.StatusConflict, "name_taken", "The worker has a key already.", "Revoke that key first, or choose another name.")
	errSlow     = newProblem(http.StatusRequestTimeout, "timeout", "The content did not arrive in time.", "")
)

func newProblem(status int, code, title, detail string) *worker.Problem {
	return &worker.Problem{Type: "about:blank", Title: title, Status: status, Code: code, Detail: detail}
}

// failed turns an error into what huma answers with, and logs it if it is the server's.
func (s *Server) failed(ctx context.Context, err error) *problem {
	p := &problem{Problem: *worker.ProblemFor(meaning(err))}
	if busy, ok := errors.AsType[*throttled](err); ok {
		p.Problem, p.after = *errThrottled, busy.wait
	}
	if p.Status >= http.StatusInternalServerError && ctx.Err() == nil { // or else the client has gone
		s.opts.Logger.ErrorContext(ctx, "request failed", "request_id", requestID(ctx), "error", err)
	}
	p.RequestID = requestID(ctx)
	return p
}

// answer sends an error's problem.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, err error) {
	s.failed(r.Context(), err).Write(w)
}

// A problem is a [worker.Problem] that huma knows how to send.
type problem struct {
	worker.Problem
	after time.Duration // when to try again, if that is known
}

// GetStatus implements [huma.StatusError].
func (p *problem) GetStatus() int { return p.Status }

// ContentType implements [huma.ContentTypeFilter].
func (p *problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders implements [huma.HeadersError].
func (p *problem) GetHeaders() http.Header {
	switch p.Status {
	case http.StatusUnauthorized:
		return http.Header{"Www-Authenticate": {"Bearer"}}
	case http.StatusServiceUnavailable:
		return http.Header{"Retry-After": {"5"}}
	case http.StatusTooManyRequests:
		return http.Header{"Retry-After": {strconv.Itoa(int(math.Ceil(p.after.Seconds())))}}
	default:
		return nil
	}
}

// huma makes its own errors, those of requests that do not fit an operation, through variables of its package. All of them
// become problems here, with names of fields, rules and no values; what handlers return never comes this way.
func init() {
	huma.ValidateStrictCasing = true
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return refusal("", status, message, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
		return refusal(requestID(ctx.Context()), status, message, errs)
	}
}

// refusal is the problem of a request that was not understood.
func refusal(id string, status int, message string, errs []error) *problem {
	var p *worker.Problem
	switch status {
	case http.StatusRequestEntityTooLarge:
		p = worker.ProblemFor(worker.ErrBlobTooLarge)
		p.Detail = fmt.Sprintf("A JSON body may have %d bytes.", maxJSON)
	case http.StatusRequestTimeout:
		p = new(*errSlow)
	case http.StatusUnsupportedMediaType:
		p = newProblem(status, "unsupported_media_type", "The content must be JSON.", "Send Content-Type: application/json.")
	default: // also 500, which huma means by a body that could not be read to its end
		p = worker.ProblemFor(invalid(explain(message, errs)))
	}
	p.RequestID = id
	return &problem{Problem: *p}
}

// explain names the fields that were refused and the rules they break.
func explain(message string, errs []error) string {
	const (
		most    = 4   // errors told
		longest = 100 // bytes of a field's name, which is the client's own text
	)
	var rules []string
	for _, err := range errs {
		detail, ok := errors.AsType[*huma.ErrorDetail](err)
		if !ok || len(rules) == most {
			continue
		}
		where := strings.ToValidUTF8(detail.Location[:min(len(detail.Location), longest)], "")
		rules = append(rules, where+": "+detail.Message)
	}
	if len(rules) == 0 {
		return message
	}
	return strings.Join(rules, "; ")
}
