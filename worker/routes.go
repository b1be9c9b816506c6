package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/slipway-build/slipway/internal/token"
	"github.com/slipway-build/slipway/queue"
)

// errGone says that nobody waits for an answer any more.
var errGone = errors.New("worker: the client has gone")

// newRoutes lists all that a hub serves.
func (h *Hub) newRoutes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/worker/connect":                                    h.connect,
		"GET /v1/worker/builds/{build}/{epoch}/source":              h.source,
		"POST /v1/worker/builds/{build}/{epoch}/artifacts":          h.createArtifact,
		"PUT /v1/worker/builds/{build}/{epoch}/artifacts/{name...}": h.putArtifact,
	} {
		mux.HandleFunc(pattern, h.handle(serve))
	}
	mux.HandleFunc("/", h.handle(func(http.ResponseWriter, *http.Request) error { return queue.ErrNotFound }))
	return mux
}

// handle turns a handler's error into its answer, and keeps its panics from the rest of the process.
func (h *Hub) handle(serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				h.opts.Logger.Error("panic while serving a worker", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				panic(http.ErrAbortHandler) // part of an answer may be on its way
			}
		}()
		err := serve(w, r)
		if err == nil || errors.Is(err, errGone) {
			return
		}
		problem := ProblemFor(err)
		if problem.Status >= http.StatusInternalServerError {
			level := slog.LevelError
			if problem.Status == http.StatusServiceUnavailable {
				level = slog.LevelWarn // whatever is down has been logged by whoever noticed
			}
			h.opts.Logger.Log(r.Context(), level, "request failed", "method", r.Method, "path", r.URL.Path, "status", problem.Status,
				"request_id", w.Header().Get("X-Request-Id"), "error", err)
		}
		problem.Write(w)
	}
}

// sourcePath and artifactPath are where a worker finds what belongs to an attempt.
func sourcePath(id queue.AttemptID) string { return attemptPath(id) + "/source" }

func artifactPath(id queue.AttemptID, name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return attemptPath(id) + "/artifacts/" + strings.Join(parts, "/")
}

func attemptPath(id queue.AttemptID) string {
	return fmt.Sprintf("/v1/worker/builds/%s/%d", id.Build, id.Epoch)
}

// attemptOf reads the attempt that a request is about.
func attemptOf(r *http.Request) (queue.AttemptID, error) {
	build, err := queue.ParseID(r.PathValue("build"))
	if err != nil {
		return queue.AttemptID{}, err
	}
	epoch, err := strconv.ParseUint(r.PathValue("epoch"), 10, 32)
	if err != nil || epoch == 0 {
		return queue.AttemptID{}, fmt.Errorf("%w: epoch must be a positive number", queue.ErrInvalid)
	}
	return queue.AttemptID{Build: build, Epoch: int64(epoch)}, nil
}

// authorize returns the lease of the attempt that a request is about, if the request carries its build token. The lease is
// looked up each time: the token dies with it.
func (h *Hub) authorize(r *http.Request) (queue.Lease, error) {
	id, err := attemptOf(r)
	if err != nil {
		return queue.Lease{}, err
	}
	presented, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return queue.Lease{}, ErrUnauthorized
	}
	build, epoch, hash, err := token.Parse(presented)
	if err != nil || queue.ID(build) != id.Build || epoch != id.Epoch {
		return queue.Lease{}, ErrUnauthorized
	}
	lease, err := h.queue.Lease(r.Context(), id)
	if errors.Is(err, queue.ErrStaleLease) || err == nil && !token.Match(lease.TokenHash, hash) {
		return queue.Lease{}, ErrUnauthorized
	}
	return lease, err
}
