package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/storeblobs"
)

// settings are what a service is made with.
type settings struct {
	dir       string
	key       string // of whoever may release
	workerKey string
	log       *slog.Logger
}

// A service keeps releases. Its parts are those of any service with a database, and a hub.
type service struct {
	settings settings
	db       *sql.DB
	blobs    *filestore.Backend
	releases *releases
	hub      *worker.Hub
}

// newService opens what is in the directory, and makes what is not there yet.
func newService(ctx context.Context, set settings) (_ *service, err error) {
	if err := os.MkdirAll(set.dir, 0o700); err != nil {
		return nil, err
	}
	s := &service{settings: set}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	// The queue's tables are beside the service's own, in one database: that is what makes one transaction of both.
	if s.db, err = sqlitequeue.Open(filepath.Join(set.dir, "service.db"), nil); err != nil {
		return nil, err
	}
	backend, err := sqlitequeue.New(s.db, nil)
	if err != nil {
		return nil, err
	}
	if err := backend.Migrate(ctx); err != nil {
		return nil, err
	}
	q := queue.New(backend, &queue.Options{Logger: set.log})
	s.releases = &releases{db: s.db, queue: q}
	if err := s.releases.migrate(ctx); err != nil {
		return nil, err
	}
	if s.blobs, err = filestore.New(filepath.Join(set.dir, "blobs"), nil); err != nil {
		return nil, err
	}
	s.hub, err = worker.NewHub(q, storeblobs.New(storage.New(s.blobs, nil)), s.identify, &worker.HubOptions{Logger: set.log})
	return s, err
}

func (s *service) close() error {
	var errs []error
	if s.blobs != nil {
		errs = append(errs, s.blobs.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

// identify tells the hub who a worker is. This service knows one.
func (s *service) identify(r *http.Request) (worker.Identity, error) {
	if !presents(r, s.settings.workerKey) {
		return worker.Identity{}, worker.ErrUnauthorized
	}
	return worker.Identity{Worker: "builder", Pools: []string{queue.DefaultPool}}, nil
}

// presents reports whether a request carries a key. Equal sums mean equal keys, and take equal time to compare.
func presents(r *http.Request, key string) bool {
	presented, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	got, want := sha256.Sum256([]byte(presented)), sha256.Sum256([]byte(key))
	return ok && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// routes lists all that the service serves: its own, and the hub's.
func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /releases", s.guarded(s.postRelease))
	mux.Handle("GET /releases/{tag}", s.guarded(s.getRelease))
	mux.Handle("GET /releases/{tag}/log", s.guarded(s.getLog))
	mux.Handle("/v1/worker/", s.hub)
	return mux
}

// guarded lets whoever has the service's key through to serve, and answers its error.
func (s *service) guarded(serve func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := worker.ErrUnauthorized
		if presents(r, s.settings.key) {
			err = serve(w, r)
		}
		if err == nil {
			return
		}
		switch {
		case errors.Is(err, errReleased):
			err = fmt.Errorf("%w: %w", queue.ErrConflict, err)
		case errors.Is(err, errNoTag):
			err = fmt.Errorf("%w: %w", queue.ErrNotFound, err)
		}
		problem := worker.ProblemFor(err)
		if problem.Status >= http.StatusInternalServerError {
			s.settings.log.Error("request failed", "path", r.URL.Path, "error", err)
		}
		problem.Write(w)
	})
}

func (s *service) postRelease(w http.ResponseWriter, r *http.Request) error {
	var body struct{ Tag string }
	const most = 4 << 10
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, most)).Decode(&body); err != nil {
		return fmt.Errorf(`%w: the body must be like {"tag": "v1.2.0"}`, queue.ErrInvalid)
	}
	if err := queue.CheckName("tag", body.Tag); err != nil {
		return err
	}
	if _, err := s.releases.add(r.Context(), body.Tag); err != nil {
		return err
	}
	return s.answer(w, r, http.StatusCreated, body.Tag)
}

func (s *service) getRelease(w http.ResponseWriter, r *http.Request) error {
	return s.answer(w, r, http.StatusOK, r.PathValue("tag"))
}

func (s *service) answer(w http.ResponseWriter, r *http.Request, status int, tag string) error {
	found, err := s.releases.get(r.Context(), tag)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(found) // a client that has gone needs no answer
	return nil
}

func (s *service) getLog(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	return s.releases.writeLog(r.Context(), r.PathValue("tag"), w)
}
