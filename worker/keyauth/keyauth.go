package keyauth

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/worker"
)

// New returns the function by which a hub authenticates requests to connect: they must carry a key of a worker, and get the
// worker's name and pools from it. Other good keys are refused as [worker.ErrForbidden]. A key that is revoked connects no
// more; what is connected stays so.
func New(keys *auth.Keys) func(*http.Request) (worker.Identity, error) {
	return func(r *http.Request) (worker.Identity, error) {
		caller, err := keys.AuthenticateRequest(r)
		switch {
		case errors.Is(err, auth.ErrUnauthenticated):
			return worker.Identity{}, fmt.Errorf("%w: %w", worker.ErrUnauthorized, err)
		case err != nil:
			return worker.Identity{}, fmt.Errorf("%w: %w", worker.ErrUnavailable, err) // the keys could not be looked up
		case !caller.Role.Can(auth.Connect):
			return worker.Identity{}, fmt.Errorf("%w: the key is not a worker's", worker.ErrForbidden)
		}
		return worker.Identity{Worker: caller.Worker, Pools: caller.Pools}, nil
	}
}
