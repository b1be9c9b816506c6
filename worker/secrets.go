package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/slipway-build/slipway/internal/redact"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// noSecrets is what is said of an attempt whose secrets could not be had. Why is for the controller's own log.
const noSecrets = "the controller could not get the build's secrets"

// secrets returns the secrets of an attempt that this process may start. An error of its own kind says that it is theirs.
func (h *Hub) secrets(ctx context.Context, id queue.AttemptID) (wire.Secrets, error) {
	if h.opts.Secrets == nil {
		return nil, nil
	}
	lease, err := h.queue.Lease(ctx, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, h.opts.Lease/3)
	defer cancel()
	found, err := h.lookUp(ctx, lease)
	if err != nil {
		return nil, &secretsError{err}
	}
	secrets := make(wire.Secrets, len(found))
	for name, value := range found {
		secrets[name] = string(value)
	}
	if err := secrets.Check(); err != nil {
		return nil, &secretsError{err}
	}
	return secrets, nil
}

// A secretsError says that a build has secrets that cannot be had.
type secretsError struct{ error }

func (e *secretsError) Unwrap() error { return e.error }

// lookUp asks the host. Of a panic only the place is logged: its value may be a secret.
func (h *Hub) lookUp(ctx context.Context, lease queue.Lease) (found map[string]Secret, err error) {
	defer func() {
		if p := recover(); p != nil {
			h.opts.Logger.Error("panic while looking up secrets", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			found, err = nil, errors.New("panic in HubOptions.Secrets")
		}
	}()
	return h.opts.Secrets(ctx, lease)
}

// start tells the worker that an attempt that the queue has as running may run, with its secrets.
func (s *session) start(ctx context.Context, ref wire.Ref) {
	id := queue.AttemptID(ref)
	accept := &wire.Accept{Ref: ref} // which this answers
	secrets, err := s.hub.secrets(ctx, id)
	switch unknown, ok := errors.AsType[*secretsError](err); {
	case ctx.Err() != nil:
		return // another controller will be asked
	case ok:
		s.log.Error("secrets not found", "build", id.Build, "epoch", id.Epoch, "error", unknown.error)
		s.withhold(ctx, accept)
		return
	case err != nil:
		s.refuse(ctx, accept, ref, err)
		return
	case !s.hub.alive():
		s.refuse(ctx, accept, ref, ErrUnavailable) // it accepts again until the answer is start or the lease is over
		return
	}
	s.setStarted(id)
	s.send(ctx, &wire.Start{Ref: ref, Lease: wire.MillisOf(s.hub.opts.Lease), Secrets: secrets})
	s.log.Info("build started", "build", id.Build, "epoch", id.Epoch)
}

// withhold has an attempt that must not start attempted again. If it was started before, and start got lost or is asked for once more, the
// worker may be running it: then it is refused for the moment.
func (s *session) withhold(ctx context.Context, accept *wire.Accept) {
	id := queue.AttemptID(accept.Ref)
	if s.wasStarted(id) {
		s.refuse(ctx, accept, accept.Ref, ErrUnavailable)
		return
	}
	_, err := s.hub.queue.Finish(ctx, queue.Completion{
		AttemptID: id, Session: s.id, Outcome: queue.Lost, Reason: noSecrets, LogSHA256: sha256.Sum256(nil),
	})
	if err == nil {
		err = queue.ErrStaleLease // from now on
	}
	s.refuse(ctx, accept, accept.Ref, err)
}

func (s *session) setStarted(id queue.AttemptID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[id]; l != nil {
		l.started = true
	}
}

func (s *session) wasStarted(id queue.AttemptID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	return l != nil && l.started
}

// hidden returns what nobody may see of what the attempt writes and says.
func (t *attempt) hidden() []string {
	hidden := []string{t.token.Reveal()}
	for _, value := range t.secrets {
		hidden = append(hidden, value)
	}
	return hidden
}

// mask returns a text as it may be seen.
func (t *attempt) mask(text string) string { return redact.Text(t.hidden(), text) }
