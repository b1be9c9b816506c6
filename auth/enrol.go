package auth

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An Enrolment is what a worker asks for with an enrolment token.
type Enrolment struct {
	// Worker is the name of the worker.
	Worker string
	// Hash is that of the worker's [Draft].
	Hash [32]byte
}

// Enrol exchanges an enrolment token, the text of a key of role [Enroller], for the
// key of a worker, whose pools are the token's and which is good until it is revoked.
// The key's text is [Draft.Key] of its id: whoever made the draft has it, and nobody
// else. An exchange of a token, a name and a draft that has succeeded can be repeated
// and comes to the same key, also when the token is used up or has expired since.
//
// Errors: [ErrUnauthenticated] if the token is malformed, unknown, wrong, expired,
// used up or revoked; [ErrInvalid] for what is no name of a worker; [ErrForbidden] if
// the token is not for workers of that name; [ErrTaken] if the worker has a key that
// is good, which has to be revoked first. Any other error means that the token could
// not be exchanged.
func (k *Keys) Enrol(ctx context.Context, presented string, e Enrolment) (Key, error) {
	kind, id, hash, ok := parseKey(presented)
	if !ok || kind != KindEnrol {
		return Key{}, wrap("enrol", id, ErrUnauthenticated)
	}
	enroller, err := k.identify(ctx, id, hash)
	if err == nil && (enroller.Kind != KindEnrol || enroller.Role != Enroller || !enroller.RevokedAt.IsZero()) {
		err = ErrUnauthenticated
	}
	if err == nil {
		err = checkName("worker", e.Worker)
	}
	if err == nil && !matches(enroller.Worker, e.Worker) {
		err = fmt.Errorf("%w: the token is for workers named %s", ErrForbidden, enroller.Worker)
	}
	if err != nil {
		return Key{}, wrap("enrol", id, err)
	}
	now := time.Now()
	key, err := k.backend.Enrol(ctx, Record{Hash: e.Hash, Key: Key{
		ID: newID(now), Kind: KindWorker, Name: "worker " + e.Worker, Role: Worker, Worker: e.Worker, EnrolledBy: id,
	}})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: the token has expired, is used up or was revoked", ErrUnauthenticated)
	}
	if err != nil {
		return Key{}, wrap("enrol", id, err)
	}
	k.touch(ctx, enroller, instant(now))
	return key, nil
}
