package keyauth_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/memauth"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/keyauth"
)

func TestAuthenticate(t *testing.T) {
	keys, err := auth.New(memauth.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	create := func(n auth.NewKey) (auth.Key, string) {
		t.Helper()
		key, secret, err := keys.Create(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		return key, secret.Reveal()
	}
	_, builder := create(auth.NewKey{Role: auth.Worker, Name: "builder", Worker: "builder-1", Pools: []string{"default", "mac"}})
	_, viewer := create(auth.NewKey{Role: auth.Viewer, Name: "screen", Project: "web"})
	gone, revoked := create(auth.NewKey{Role: auth.Worker, Name: "gone", Worker: "builder-2", Pools: []string{"default"}})
	if err := keys.Revoke(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		header string
		want   error
	}{
		"a worker's key": {"Bearer " + builder, nil},
		"no key":         {"", worker.ErrUnauthorized},
		"an empty key":   {"Bearer ", worker.ErrUnauthorized},
		"another text":   {"Bearer " + builder + "x", worker.ErrUnauthorized},
		"a viewer's key": {"Bearer " + viewer, worker.ErrForbidden},
		"a revoked key":  {"Bearer " + revoked, worker.ErrUnauthorized},
	}
	authenticate := keyauth.New(keys)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/v1/worker/connect", nil)
			if test.header != "" {
				r.Header.Set("Authorization", test.header)
			}
			who, err := authenticate(r)
			if !errors.Is(err, test.want) {
				t.Fatalf("got error %v, want %v", err, test.want)
			}
			if err == nil && (who.Worker != "builder-1" || !slices.Equal(who.Pools, []string{"default", "mac"})) {
				t.Errorf("got %+v", who)
			}
		})
	}
}
