package main

import (
	"cmp"
	"errors"
	"strings"

	"github.com/slipway-build/slipway/examples/internal/client"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

var errInterrupted = errors.New("interrupted")

// explain makes an error say what to do about it.
func explain(in *invocation, err error) error {
	if _, ok := errors.AsType[*client.Error](err); !ok {
		return err
	}
	if in.ctx.Err() != nil {
		return errInterrupted
	}
	if _, ok := errors.AsType[*hinted](err); ok {
		return err
	}
	hint := hintFor(err)
	if hint == "" {
		return reasonOf(err)
	}
	return &hinted{err: err, hint: hint}
}

func hintFor(err error) string {
	switch {
	case errors.Is(err, client.ErrUnreachable):
		return "start a controller there, or say where it is with --url or SLIPWAY_URL"
	case errors.Is(err, worker.ErrUnauthorized):
		return "set SLIPWAY_KEY or --key-file to a key of this controller that is still good"
	case errors.Is(err, worker.ErrForbidden):
		return "use a key whose role and pools allow it"
	case errors.Is(err, queue.ErrNotFound):
		return "slipway list shows the builds of the project; --project names another"
	case errors.Is(err, queue.ErrFinished):
		return "there is nothing left to cancel"
	case errors.Is(err, worker.ErrBlobTooLarge):
		return "submit a smaller directory, or raise the controller's limit"
	case errors.Is(err, queue.ErrConflict):
		return "its id or idempotency key was used for another build"
	case errors.Is(err, worker.ErrNoSpace):
		return "make room in the controller's storage"
	case errors.Is(err, client.ErrDamaged):
		return "nothing of it was kept; try again, and if it stays so tell whoever keeps the controller"
	default:
		return ""
	}
}

// hinted is an error with a hint. A command that knows better than [hintFor] what helps returns one.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return reasonOf(h.err).Error() + "; " + h.hint }
func (h *hinted) Unwrap() error { return h.err }

// reasonOf is a client's error without the operation, which the user knows, and as part of a sentence.
func reasonOf(err error) error {
	if p, ok := errors.AsType[*worker.Problem](err); ok {
		text := strings.TrimSuffix(cmp.Or(p.Detail, p.Title), ".")
		text = strings.TrimPrefix(text, queue.ErrInvalid.Error()+": ")
		if p.RequestID != "" {
			text += " (request " + visible(p.RequestID) + ")"
		}
		return errors.New(strings.ToLower(text[:min(len(text), 1)]) + text[min(len(text), 1):])
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Err
	}
	return err
}
