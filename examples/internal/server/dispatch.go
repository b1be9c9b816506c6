package server

import (
	"net/http"

	"github.com/slipway-build/slipway/queue"
)

// dispatch finds the route of a request. Where the mux would answer by itself, in plain text or by a redirect, there is a problem.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	handler, _ := s.mux.Handler(r)
	if _, ours := handler.(*endpoint); ours {
		s.mux.ServeHTTP(w, r) // which sets the path's values
		return
	}
	unknown := probe{}
	handler.ServeHTTP(unknown, r)
	allow := unknown.Header().Get("Allow")
	if allow == "" {
		s.answer(w, r, queue.ErrNotFound)
		return
	}
	w.Header().Set("Allow", allow)
	s.answer(w, r, newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "The route has no such method.", "Allowed: "+allow+"."))
}

// A probe takes the header of an answer that nobody gets.
type probe http.Header

func (p probe) Header() http.Header         { return http.Header(p) }
func (p probe) Write(b []byte) (int, error) { return len(b), nil }
func (p probe) WriteHeader(int)             {}

// worker passes a request on to the hub.
func (s *Server) worker(w http.ResponseWriter, r *http.Request) error {
	s.Hub.ServeHTTP(w, r)
	return nil
}
