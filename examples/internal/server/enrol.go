package server

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
)

type enrolInput struct{ Body api.Enrolment }

type enrolOutput struct{ Body api.Key }

// enrol exchanges the caller's token. What is wrong with a token the log tells, and the caller is not told.
func (s *Server) enrol(ctx context.Context, in *enrolInput) (*enrolOutput, error) {
	c := callerOf(ctx)
	if err := s.refusals.enter(c.from, time.Now()); err != nil {
		return nil, err
	}
	e := auth.Enrolment{Worker: in.Body.Worker}
	if _, err := hex.Decode(e.Hash[:], []byte(in.Body.SHA256)); err != nil {
		return nil, err // its form was checked
	}
	key, err := s.Keys.Enrol(ctx, c.token.Reveal(), e)
	if !errors.Is(err, auth.ErrUnauthenticated) {
		s.refusals.leave(c.from, time.Now())
	}
	if err != nil {
		worker := e.Worker
		if errors.Is(err, auth.ErrInvalid) {
			worker = "" // it may be anything, a secret in the wrong place too
		}
		s.opts.Logger.WarnContext(ctx, "worker not enrolled", "worker", worker, "from", c.from, "error", err, "request_id", requestID(ctx))
		return nil, notEnrolled(err)
	}
	s.opts.Logger.InfoContext(ctx, "worker enrolled", "key_id", key.ID, "worker", key.Worker, "by", key.EnrolledBy, "from", c.from,
		"request_id", requestID(ctx))
	return &enrolOutput{Body: keyOf(key)}, nil
}

// notEnrolled tells whoever has shown a good token what is wrong with the name.
func notEnrolled(err error) error {
	switch {
	case errors.Is(err, auth.ErrTaken):
		return errTaken
	case errors.Is(err, auth.ErrForbidden):
		return newProblem(http.StatusForbidden, "name_not_allowed", "The token is for workers of other names.", ruleOf(err, auth.ErrForbidden))
	default:
		return err
	}
}
