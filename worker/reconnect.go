package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/worker/wire"
)

// A reconnect decides how long to wait before the next connection, by the rules of [wire.Retry].
type reconnect struct {
	least, most time.Duration
	next        time.Duration // upper bound of the next pause of wire.RetryBackoff
	replaced    bool          // the last connection ended because another one took over
}

// stable says that a connection has lasted, so that what was before does not count any more.
func (r *reconnect) stable() { r.next, r.replaced = 0, false }

// after returns the pause after a connection, or the attempt at one, that ended with err.
func (r *reconnect) after(err error) time.Duration {
	closed, ok := errors.AsType[*ws.CloseError](err)
	again := r.replaced
	r.replaced = ok && wire.CloseCode(closed.Code) == wire.CloseReplaced
	rule := retryRule(err)
	if again && r.replaced {
		rule = wire.RetrySlow // somebody else has the same credential
	}
	switch rule {
	case wire.RetrySoon:
		return rand.N(r.least)
	case wire.RetrySlow:
		return r.most + rand.N(r.most)
	default:
		r.next = max(r.least, min(2*r.next, r.most))
		pause := rand.N(r.next)
		if refused, ok := errors.AsType[*ws.RefusedError](err); ok {
			pause = max(pause, min(refused.RetryAfter, r.most))
		}
		return pause
	}
}

// retryRule returns what an agent does after err.
func retryRule(err error) wire.Retry {
	if closed, ok := errors.AsType[*ws.CloseError](err); ok {
		return wire.CloseCode(closed.Code).Retry()
	}
	refused, ok := errors.AsType[*ws.RefusedError](err)
	switch {
	case errors.Is(err, ws.ErrSubprotocol):
		return wire.RetrySlow // not a controller
	case !ok:
		return wire.RetryBackoff
	}
	switch refused.Status {
	case http.StatusUpgradeRequired:
		if refusedAs(refused).Code == codeHandshake {
			return wire.RetrySlow // what was sent as a handshake did not arrive as one
		}
		return wire.RetryNever
	case http.StatusUnauthorized, http.StatusForbidden:
		return wire.RetryNever
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return wire.RetryBackoff
	default:
		return wire.RetrySlow
	}
}

// refusal returns the error with which an agent gives up, if err is one that [wire.RetryNever] is for.
func refusal(err error) error {
	if retryRule(err) != wire.RetryNever {
		return nil
	}
	reason := ErrUnauthorized
	if closed, ok := errors.AsType[*ws.CloseError](err); ok && wire.CloseCode(closed.Code) == wire.CloseVersion {
		reason = ErrVersion
	}
	if refused, ok := errors.AsType[*ws.RefusedError](err); ok {
		if refused.Status == http.StatusUpgradeRequired {
			reason = ErrVersion
		}
		if p := refusedAs(refused); p.Title != "" {
			err = fmt.Errorf("%w: %.300q", err, p.Error())
		}
	}
	return fmt.Errorf("worker: the controller refused this agent: %w: %w", reason, err)
}

// refusedAs returns the problem with which a controller refused a handshake; it is empty if the answer is none, or is cut off.
func refusedAs(refused *ws.RefusedError) *Problem {
	p := &Problem{}
	if json.Unmarshal(refused.Body, p) != nil {
		return &Problem{}
	}
	return p
}
