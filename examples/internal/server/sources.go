package server

import (
	"errors"
	"io/fs"
	"net/http"
	"strconv"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

func (s *Server) statSource(w http.ResponseWriter, r *http.Request) error {
	digest, err := queue.ParseDigest(r.PathValue("sha256"))
	if err != nil {
		return err
	}
	size, err := s.blobs.Stat(r.Context(), callerOf(r.Context()).project, digest)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	return nil
}

// putSource stores the archive that builds start from, under the digest that the client says it has.
func (s *Server) putSource(w http.ResponseWriter, r *http.Request) error {
	digest, err := queue.ParseDigest(r.PathValue("sha256"))
	if err != nil {
		return err
	}
	if r.ContentLength < 0 {
		return errLengthRequired
	}
	if r.ContentLength > s.opts.MaxSource {
		return worker.ErrBlobTooLarge
	}
	project := callerOf(r.Context()).project
	status := http.StatusCreated
	switch _, err := s.blobs.Stat(r.Context(), project, digest); {
	case err == nil:
		status = http.StatusOK
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	body := s.pacedReader(w, r)
	if err := s.blobs.Put(r.Context(), project, digest, r.ContentLength, body); err != nil {
		return err
	}
	w.WriteHeader(status)
	return nil
}
