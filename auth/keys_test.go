package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/memauth"
)

const adminKey = "q7Zp0vR2xK9mW4tB6nC1sD8fG3hJ5lYe"

var (
	submitter = auth.NewKey{Name: "ci", Role: auth.Submitter, Project: "web"}
	worker    = auth.NewKey{Name: "rack", Role: auth.Worker, Worker: "rack-7", Pools: []string{"linux", "mac"}}
)

func newKeys(t *testing.T, b auth.Backend, o *auth.Options) *auth.Keys {
	t.Helper()
	keys, err := auth.New(b, o)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func create(t *testing.T, keys *auth.Keys, n auth.NewKey) (auth.Key, string) {
	t.Helper()
	key, secret, err := keys.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return key, secret.Reveal()
}

func TestAuthenticate(t *testing.T) {
	keys := newKeys(t, memauth.New(), &auth.Options{AdminKey: auth.NewSecret(adminKey)})
	sub, subText := create(t, keys, submitter)
	wrk, wrkText := create(t, keys, worker)
	if !strings.HasPrefix(subText, "slw_api_"+sub.ID+"_") || !strings.HasPrefix(wrkText, "slw_worker_"+wrk.ID+"_") {
		t.Errorf("keys do not show their kind and id")
	}
	for text, want := range map[string]auth.Principal{
		adminKey: {KeyID: auth.StaticAdmin, Role: auth.Admin},
		subText:  {KeyID: sub.ID, Role: auth.Submitter, Project: "web"},
		wrkText:  {KeyID: wrk.ID, Role: auth.Worker, Worker: "rack-7", Pools: []string{"linux", "mac"}},
	} {
		got, err := keys.Authenticate(t.Context(), text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Authenticate = %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestAuthenticateRefuses(t *testing.T) {
	b := memauth.New()
	keys := newKeys(t, b, &auth.Options{AdminKey: auth.NewSecret(adminKey)})
	_, text := create(t, keys, submitter)
	_, other := create(t, keys, submitter)
	_, foreign := create(t, newKeys(t, memauth.New(), nil), submitter)
	cut := strings.LastIndex(text, "_")
	for name, presented := range map[string]string{
		"nothing":               "",
		"space":                 " ",
		"half an admin key":     adminKey[:16],
		"admin key in capitals": strings.ToUpper(adminKey),
		"admin key and more":    adminKey + "x",
		"unknown":               foreign,
		"secret of another":     text[:cut] + other[strings.LastIndex(other, "_"):],
		"worker for api":        strings.Replace(text, "slw_api_", "slw_worker_", 1),
		"without its secret":    text[:cut],
		"cut":                   text[:len(text)-1],
		"very long":             strings.Repeat("a", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := keys.Authenticate(t.Context(), presented)
			if !errors.Is(err, auth.ErrUnauthenticated) {
				t.Errorf("error = %v, want ErrUnauthenticated", err)
			}
			if !reflect.DeepEqual(p, auth.Principal{}) {
				t.Errorf("principal = %+v, want none", p)
			}
		})
	}
}

// oneRecord answers every lookup with the same record.
type oneRecord struct {
	auth.Backend
	record auth.Record
	err    error
}

func (b oneRecord) Lookup(context.Context, string) (auth.Record, error) { return b.record, b.err }

func TestAuthenticateComparesTheRecord(t *testing.T) {
	b := memauth.New()
	keys := newKeys(t, b, nil)
	key, text := create(t, keys, submitter)
	good, err := b.Lookup(t.Context(), key.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*auth.Record){
		"zero hash":         func(r *auth.Record) { r.Hash = [32]byte{} },
		"other kind":        func(r *auth.Record) { r.Kind = auth.KindWorker },
		"role of a worker":  func(r *auth.Record) { r.Role = auth.Worker },
		"unknown role":      func(r *auth.Record) { r.Role = "root" },
		"revoked later on":  func(r *auth.Record) { r.RevokedAt = time.Now().Add(time.Hour) },
		"expired right now": func(r *auth.Record) { r.ExpiresAt = time.Now() },
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			spoil(&r)
			_, err := newKeys(t, oneRecord{b, r, nil}, nil).Authenticate(t.Context(), text)
			if !errors.Is(err, auth.ErrUnauthenticated) {
				t.Errorf("error = %v, want ErrUnauthenticated", err)
			}
		})
	}
}

func TestAuthenticateReportsFailureOfTheStore(t *testing.T) {
	b := memauth.New()
	key, text := create(t, newKeys(t, b, nil), submitter)
	down := errors.New("store is down")
	_, err := newKeys(t, oneRecord{b, auth.Record{}, down}, nil).Authenticate(t.Context(), text)
	if !errors.Is(err, down) || errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("error = %v, want the store's", err)
	}
	if e, ok := errors.AsType[*auth.Error](err); !ok || e.Op != "authenticate" || e.KeyID != key.ID {
		t.Errorf("error = %#v, want an *auth.Error that names operation and key", err)
	}
}

func TestNoStaticAdminWithoutKey(t *testing.T) {
	for name, o := range map[string]*auth.Options{"nil": nil, "zero": {}, "empty": {AdminKey: auth.NewSecret("")}} {
		t.Run(name, func(t *testing.T) {
			keys := newKeys(t, memauth.New(), o)
			for _, presented := range []string{"", " ", adminKey} {
				if _, err := keys.Authenticate(t.Context(), presented); !errors.Is(err, auth.ErrUnauthenticated) {
					t.Errorf("Authenticate(%q) = %v, want ErrUnauthenticated", presented, err)
				}
			}
		})
	}
}

func TestNewRefusesWeakAdminKey(t *testing.T) {
	weak := "hunter2-canary-hunter2-canary"
	_, err := auth.New(memauth.New(), &auth.Options{AdminKey: auth.NewSecret(weak)})
	if !errors.Is(err, auth.ErrWeakKey) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error = %v, want ErrWeakKey without the key", err)
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t, memauth.New(), nil)
		n := submitter
		n.Lifetime = time.Hour
		key, text := create(t, keys, n)
		if want := key.CreatedAt.Add(time.Hour); !key.ExpiresAt.Equal(want) {
			t.Errorf("ExpiresAt = %v, want %v", key.ExpiresAt, want)
		}
		<-time.After(time.Hour - time.Microsecond)
		if _, err := keys.Authenticate(t.Context(), text); err != nil {
			t.Errorf("a microsecond before the end: %v", err)
		}
		<-time.After(time.Microsecond)
		if _, err := keys.Authenticate(t.Context(), text); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("at the end: error = %v, want ErrUnauthenticated", err)
		}
	})
}

func TestRevoke(t *testing.T) {
	keys := newKeys(t, memauth.New(), nil)
	key, text := create(t, keys, submitter)
	for range 2 {
		if err := keys.Revoke(t.Context(), key.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Authenticate(t.Context(), text); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("error = %v, want ErrUnauthenticated", err)
		}
	}
	for _, id := range []string{"", "x", text, strings.Repeat("0", 24), auth.StaticAdmin} {
		err := keys.Revoke(t.Context(), id)
		if !errors.Is(err, auth.ErrNotFound) {
			t.Errorf("error = %v, want ErrNotFound", err)
		}
		if strings.Contains(err.Error(), text) {
			t.Error("a key passed for its id is shown in the error")
		}
	}
}

// touches counts the calls of Touch and fails them if told to.
type touches struct {
	auth.Backend

	mu    sync.Mutex
	calls int
	err   error
}

func (b *touches) Touch(ctx context.Context, id string, at time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.err != nil {
		return b.err
	}
	return b.Backend.Touch(ctx, id, at)
}

func TestLastUse(t *testing.T) {
	tests := map[string]struct {
		err       error
		wantCalls int
	}{
		"noted":        {nil, 2},
		"store fails":  {errors.New("read-only"), 2},
		"past a crash": {context.DeadlineExceeded, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &touches{Backend: memauth.New(), err: tt.err}
				keys := newKeys(t, b, &auth.Options{Logger: slog.New(slog.DiscardHandler)})
				_, text := create(t, keys, submitter)
				for range 2 {
					for range 5 {
						var wg sync.WaitGroup
						for range 4 {
							wg.Go(func() {
								if _, err := keys.Authenticate(t.Context(), text); err != nil {
									t.Errorf("Authenticate = %v", err)
								}
							})
						}
						wg.Wait()
						<-time.After(12 * time.Second)
					}
				}
				if b.calls != tt.wantCalls {
					t.Errorf("%d calls of Touch in two minutes, want %d", b.calls, tt.wantCalls)
				}
			})
		})
	}
}

func TestLastUseIsNotNotedAgainAfterAnotherProcess(t *testing.T) {
	b := &touches{Backend: memauth.New()}
	_, text := create(t, newKeys(t, b, nil), submitter)
	for range 3 {
		if _, err := newKeys(t, b, nil).Authenticate(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	if b.calls != 1 {
		t.Errorf("three processes made %d calls of Touch, want 1", b.calls)
	}
}

func TestLastUseOutlivesTheRequest(t *testing.T) {
	b := &touches{Backend: memauth.New()}
	keys := newKeys(t, b, nil)
	key, text := create(t, keys, submitter)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := keys.Authenticate(ctx, text); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Lookup(t.Context(), key.ID); err != nil || r.LastUsedAt.IsZero() {
		t.Errorf("LastUsedAt = %v, %v; want it noted", r.LastUsedAt, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	long := strings.Repeat("a", 64)
	for name, tt := range map[string]struct {
		key  auth.NewKey
		what string
	}{
		"no role":              {auth.NewKey{Name: "x"}, "role"},
		"unknown role":         {auth.NewKey{Name: "x", Role: "root"}, "role"},
		"no name":              {auth.NewKey{Role: auth.Admin}, "name"},
		"long name":            {auth.NewKey{Name: strings.Repeat("n", 201), Role: auth.Admin}, "name"},
		"line break in name":   {auth.NewKey{Name: "a\nb", Role: auth.Admin}, "name"},
		"direction override":   {auth.NewKey{Name: "a\u202eb", Role: auth.Admin}, "name"},
		"broken UTF-8":         {auth.NewKey{Name: "a\xff", Role: auth.Admin}, "name"},
		"negative lifetime":    {auth.NewKey{Name: "x", Role: auth.Admin, Lifetime: -1}, "lifetime"},
		"admin of a project":   {auth.NewKey{Name: "x", Role: auth.Admin, Project: "web"}, "project"},
		"admin of a pool":      {auth.NewKey{Name: "x", Role: auth.Admin, Pools: []string{"linux"}}, "pools"},
		"admin as a worker":    {auth.NewKey{Name: "x", Role: auth.Admin, Worker: "w"}, "worker"},
		"submitter everywhere": {auth.NewKey{Name: "x", Role: auth.Submitter}, "project"},
		"viewer everywhere":    {auth.NewKey{Name: "x", Role: auth.Viewer}, "project"},
		"viewer of a pool":     {auth.NewKey{Name: "x", Role: auth.Viewer, Project: "web", Pools: []string{"linux"}}, "pools"},
		"worker without pool":  {auth.NewKey{Name: "x", Role: auth.Worker, Worker: "w"}, "pools"},
		"nameless worker":      {auth.NewKey{Name: "x", Role: auth.Worker, Pools: []string{"linux"}}, "worker"},
		"worker of a project":  {auth.NewKey{Name: "x", Role: auth.Worker, Worker: "w", Pools: []string{"linux"}, Project: "web"}, "project"},
		"empty pool":           {auth.NewKey{Name: "x", Role: auth.Worker, Worker: "w", Pools: []string{""}}, "pool"},
		"pool twice":           {auth.NewKey{Name: "x", Role: auth.Worker, Worker: "w", Pools: []string{"a", "a"}}, "pools"},
		"too many pools":       {auth.NewKey{Name: "x", Role: auth.Worker, Worker: "w", Pools: make([]string, 65)}, "pools"},
		"upper case":           {auth.NewKey{Name: "x", Role: auth.Viewer, Project: "Web"}, "project"},
		"path":                 {auth.NewKey{Name: "x", Role: auth.Viewer, Project: "a/b"}, "project"},
		"two dots":             {auth.NewKey{Name: "x", Role: auth.Viewer, Project: "a..b"}, "project"},
		"first a dot":          {auth.NewKey{Name: "x", Role: auth.Viewer, Project: ".a"}, "project"},
		"letters beyond ASCII": {auth.NewKey{Name: "x", Role: auth.Viewer, Project: "é"}, "project"},
		"long project":         {auth.NewKey{Name: "x", Role: auth.Viewer, Project: long}, "project"},
	} {
		t.Run(name, func(t *testing.T) {
			_, secret, err := newKeys(t, memauth.New(), nil).Create(t.Context(), tt.key)
			if !errors.Is(err, auth.ErrInvalid) || !strings.Contains(err.Error(), "invalid argument: "+tt.what+" ") {
				t.Errorf("error = %v, want ErrInvalid about %s", err, tt.what)
			}
			if !secret.IsZero() {
				t.Error("a secret came with the error")
			}
		})
	}
}

func TestCreateKeepsItsOwnPools(t *testing.T) {
	keys := newKeys(t, memauth.New(), nil)
	n := worker
	n.Pools = slices.Clone(n.Pools)
	key, _ := create(t, keys, n)
	n.Pools[0] = "changed"
	if key.Pools[0] != "linux" {
		t.Error("the key shares its pools with the argument")
	}
}

func TestListPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t, memauth.New(), nil)
		var want []string
		for range 120 {
			key, _ := create(t, keys, submitter)
			want = append(want, key.ID)
			<-time.After(time.Millisecond)
		}
		slices.Reverse(want)
		var got []string
		for before := ""; ; {
			page, err := keys.List(t.Context(), auth.Filter{Before: before})
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, k := range page {
				got = append(got, k.ID)
			}
			before = page[len(page)-1].ID
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages hold %d keys in another order than created, newest first, or not all %d", len(got), len(want))
		}
	})
}

func TestListRefuses(t *testing.T) {
	keys := newKeys(t, memauth.New(), nil)
	for name, f := range map[string]auth.Filter{
		"negative limit": {Limit: -1},
		"large limit":    {Limit: auth.MaxPage + 1},
		"cursor":         {Before: "' OR 1=1 --"},
		"role":           {Role: "root"},
		"project":        {Project: "../etc"},
	} {
		if _, err := keys.List(t.Context(), f); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("%s: error = %v, want ErrInvalid", name, err)
		}
	}
}

func FuzzAuthenticate(f *testing.F) {
	b := memauth.New()
	keys, err := auth.New(b, &auth.Options{AdminKey: auth.NewSecret(adminKey)})
	if err != nil {
		f.Fatal(err)
	}
	_, secret, err := keys.Create(context.Background(), submitter)
	if err != nil {
		f.Fatal(err)
	}
	text := secret.Reveal()
	for _, seed := range []string{"", text, adminKey, strings.Replace(text, "api", "worker", 1), text[:40], "slw_api__", "slw_api_" + strings.Repeat("0", 24) + "_" + strings.Repeat("0", 49)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, presented string) {
		_, err := keys.Authenticate(t.Context(), presented)
		if (err == nil) != (presented == text || presented == adminKey) {
			t.Errorf("Authenticate = %v for a text that is not a key, or fails for one that is", err)
		}
		if err != nil && !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("error = %v, want ErrUnauthenticated", err)
		}
		if err != nil && len(presented) > 24 && strings.Contains(err.Error(), presented) {
			t.Error("the error shows what was presented")
		}
	})
}
