package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/slipway-build/slipway/internal/token"
)

const (
	touchEvery   = time.Minute // how far LastUsedAt may be behind
	touchTimeout = time.Second // the most that noting a use may delay a request

	defaultPage = 50
)

// Options are the settings of a [Keys].
type Options struct {
	// AdminKey is a key of role [Admin] that is set in a configuration and stored
	// nowhere. It has to pass [CheckStrength]. Default: zero, there is none.
	AdminKey Secret

	// Unauthorized answers a request that [Keys.Middleware] turns away. err wraps
	// [ErrUnauthenticated], which is a 401 and owes the client a WWW-Authenticate
	// header, or tells that the key could not be checked, which is a failure of the
	// service. It holds no secret, but its text may tell whether a key exists and is
	// not meant for the client. Default: a plain 401 or 503.
	Unauthorized func(w http.ResponseWriter, r *http.Request, err error)

	// Logger takes warnings about what fails without failing a request. Default:
	// [slog.Default].
	Logger *slog.Logger
}

// Keys creates, checks and revokes keys. It is safe for concurrent use.
type Keys struct {
	backend      Backend
	unauthorized func(http.ResponseWriter, *http.Request, error)
	log          *slog.Logger

	hasAdmin  bool
	adminHash [32]byte // of the static admin key, or of something random
	dummyHash [32]byte // of something random

	mu      sync.Mutex
	touched map[string]time.Time // when this process last tried to note the use of a key
	swept   time.Time            // when old entries of touched were last dropped
}

// New returns a Keys over the backend. A nil o means the defaults. The error is
// [ErrWeakKey] for an admin key that does not pass [CheckStrength].
func New(b Backend, o *Options) (*Keys, error) {
	if o == nil {
		o = new(Options)
	}
	k := &Keys{
		backend:      b,
		unauthorized: o.Unauthorized,
		log:          o.Logger,
		hasAdmin:     !o.AdminKey.IsZero(),
		touched:      make(map[string]time.Time),
	}
	if k.unauthorized == nil {
		k.unauthorized = unauthorized
	}
	if k.log == nil {
		k.log = slog.Default()
	}
	rand.Read(k.adminHash[:])
	rand.Read(k.dummyHash[:])
	if k.hasAdmin {
		key := o.AdminKey.Reveal()
		if err := CheckStrength(key); err != nil {
			return nil, wrap("new", "", err)
		}
		k.adminHash = sha256.Sum256([]byte(key))
	}
	return k, nil
}

// Create issues a key. The Secret is its text, which exists nowhere else and
// cannot be had again. Errors: [ErrInvalid].
func (k *Keys) Create(ctx context.Context, n NewKey) (Key, Secret, error) {
	if err := n.check(); err != nil {
		return Key{}, Secret{}, wrap("create", "", err)
	}
	now := instant(time.Now())
	if n.Role == Enroller {
		var err error
		if now, err = k.backend.Now(ctx); err != nil {
			return Key{}, Secret{}, wrap("create", "", err)
		}
		n.Uses, n.Lifetime = cmp.Or(n.Uses, 1), cmp.Or(n.Lifetime, DefaultEnrolment)
	}
	key := Key{
		ID:        newID(now),
		Kind:      n.Role.kind(),
		Name:      n.Name,
		Role:      n.Role,
		Project:   n.Project,
		Pools:     slices.Clone(n.Pools),
		Worker:    n.Worker,
		Uses:      n.Uses,
		CreatedAt: now,
	}
	if n.Lifetime > 0 {
		key.ExpiresAt = instant(now.Add(n.Lifetime))
	}
	text, hash := token.Issue(string(key.Kind), key.ID)
	if err := k.backend.Insert(ctx, Record{Key: key, Hash: hash}); err != nil {
		return Key{}, Secret{}, wrap("create", key.ID, err)
	}
	return key, NewSecret(text), nil
}

// Authenticate checks a key's text and returns who presents it. Whatever is wrong
// with the key, the error is [ErrUnauthenticated]; any other error means that it
// could not be checked. It notes the use of the key, at most once a minute, and
// does not fail if that fails.
func (k *Keys) Authenticate(ctx context.Context, presented string) (Principal, error) {
	if presented == "" || len(presented) > MaxKeyLen {
		return Principal{}, wrap("authenticate", "", ErrUnauthenticated)
	}
	if k.isAdmin(presented) {
		return Principal{KeyID: StaticAdmin, Role: Admin}, nil
	}
	kind, id, hash, ok := parseKey(presented)
	if !ok || kind == KindEnrol {
		return Principal{}, wrap("authenticate", id, ErrUnauthenticated)
	}
	key, err := k.identify(ctx, id, hash)
	if err != nil {
		return Principal{}, wrap("authenticate", id, err)
	}
	now := instant(time.Now())
	if !key.usable(kind, now) {
		return Principal{}, wrap("authenticate", id, ErrUnauthenticated)
	}
	k.touch(ctx, key, now)
	return key.principal(), nil
}

// identify returns the key that has the id and the secret, whether or not it is good.
func (k *Keys) identify(ctx context.Context, id string, hash [32]byte) (Key, error) {
	r, err := k.backend.Lookup(ctx, id)
	known := err == nil
	if errors.Is(err, ErrNotFound) {
		r = Record{Hash: k.dummyHash}
	} else if err != nil {
		return Key{}, err
	}
	if !token.Match(hash, r.Hash) || !known {
		return Key{}, ErrUnauthenticated
	}
	return r.Key, nil
}

func (k *Keys) isAdmin(presented string) bool {
	return token.Match(sha256.Sum256([]byte(presented)), k.adminHash) && k.hasAdmin
}

// usable reports whether the key is what its text says and is valid now.
func (k Key) usable(kind Kind, now time.Time) bool {
	expired := !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)
	return k.Kind == kind && k.Role.Valid() && k.Role.kind() == kind && !expired && k.RevokedAt.IsZero()
}

// touch notes the use of a key, unless that was done or tried a short while ago.
func (k *Keys) touch(ctx context.Context, key Key, now time.Time) {
	if now.Sub(key.LastUsedAt) < touchEvery || !k.mayTouch(key.ID, now) {
		return
	}
	// The request may be over before the note is written.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), touchTimeout)
	defer cancel()
	if err := k.backend.Touch(ctx, key.ID, now); err != nil {
		k.log.WarnContext(ctx, "last use of a key was not noted", "key_id", key.ID, "error", err)
	}
}

// mayTouch lets one caller a minute through for each key, so that neither a burst
// of requests nor a store that refuses writes costs every request a write.
func (k *Keys) mayTouch(id string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if last, ok := k.touched[id]; ok && now.Sub(last) < touchEvery {
		return false
	}
	if now.Sub(k.swept) >= touchEvery {
		maps.DeleteFunc(k.touched, func(_ string, last time.Time) bool { return now.Sub(last) >= touchEvery })
		k.swept = now
	}
	k.touched[id] = now
	return true
}

// Revoke makes a key invalid from now on, for good. Revoking it again changes
// nothing. Errors: [ErrNotFound].
func (k *Keys) Revoke(ctx context.Context, id string) error {
	if !validID(id) {
		return wrap("revoke", "", ErrNotFound)
	}
	return wrap("revoke", id, k.backend.Revoke(ctx, id, instant(time.Now())))
}

// List returns a page of keys, newest first, expired and revoked ones included.
// The id of the last one is the cursor of the next page. Errors: [ErrInvalid].
func (k *Keys) List(ctx context.Context, f Filter) ([]Key, error) {
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if err := f.check(); err != nil {
		return nil, wrap("list", "", err)
	}
	keys, err := k.backend.List(ctx, f)
	return keys, wrap("list", "", err)
}

func (f Filter) check() error {
	if f.Limit < 1 || f.Limit > MaxPage {
		return invalid("limit", "must be between 1 and %d", MaxPage)
	}
	if f.Before != "" && !validID(f.Before) {
		return invalid("cursor", "must be the id of a key")
	}
	if f.Role != "" && !f.Role.Valid() {
		return invalid("role", roles)
	}
	if f.Project != "" {
		return checkName("project", f.Project)
	}
	return nil
}

// instant is t as backends store it.
func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
