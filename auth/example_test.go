package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/memauth"
)

func Example() {
	ctx := context.Background()
	keys, err := auth.New(memauth.New(), &auth.Options{AdminKey: auth.GenerateKey()})
	if err != nil {
		fmt.Println(err)
		return
	}
	key, secret, err := keys.Create(ctx, auth.NewKey{Name: "nightly builds", Role: auth.Submitter, Project: "web", Lifetime: 90 * 24 * time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	// Shown to its owner once; printed by accident it shows nothing.
	fmt.Println(strings.HasPrefix(secret.Reveal(), "slw_api_"+key.ID), secret)

	caller, err := keys.Authenticate(ctx, secret.Reveal())
	fmt.Println(caller.Role, caller.Project, err)
	fmt.Println(caller.Authorize(auth.Submit, "web"))
	fmt.Println(caller.Authorize(auth.Submit, "app"))
	fmt.Println(caller.Authorize(auth.Manage, "web"))
	// Output:
	// true [redacted]
	// submitter web <nil>
	// <nil>
	// not found
	// forbidden
}

func ExampleCheckStrength() {
	err := auth.CheckStrength("changeme")
	fmt.Println(errors.Is(err, auth.ErrWeakKey))
	fmt.Println(err)
	// Output:
	// true
	// weak key: it is shorter than 32 characters; make a random one, for example with: openssl rand -hex 32
}

func ExampleKeys_Middleware() {
	admin := auth.GenerateKey()
	keys, err := auth.New(memauth.New(), &auth.Options{AdminKey: admin})
	if err != nil {
		fmt.Println(err)
		return
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := auth.FromContext(r.Context())
		fmt.Fprint(w, "hello, ", caller.Role)
	})
	for _, header := range []string{"Bearer " + admin.Reveal(), "Bearer "} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		keys.Middleware(hello).ServeHTTP(w, r)
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 200 hello, admin
	// 401 Unauthorized
}

func ExampleKeys_Create_worker() {
	ctx := context.Background()
	keys, err := auth.New(memauth.New(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _, err = keys.Create(ctx, auth.NewKey{Name: "rack 7", Role: auth.Worker, Worker: "rack-7"})
	fmt.Println(err)

	_, credential, err := keys.Create(ctx, auth.NewKey{Name: "rack 7", Role: auth.Worker, Worker: "rack-7", Pools: []string{"linux"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	caller, err := keys.Authenticate(ctx, credential.Reveal())
	fmt.Println(caller.Worker, caller.UsesPool("linux"), caller.UsesPool("mac"), caller.Role.Can(auth.Read), err)
	// Output:
	// auth: create: invalid argument: pools must name at least one pool for role worker
	// rack-7 true false false <nil>
}

func ExampleKeys_Enrol() {
	ctx := context.Background()
	keys, err := auth.New(memauth.New(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	// The operator makes a token for three machines, good for an hour.
	_, token, err := keys.Create(ctx, auth.NewKey{Name: "the new racks", Role: auth.Enroller, Worker: "rack-*", Pools: []string{"linux"}, Uses: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	// A machine makes its secret, and shows the token and the hash.
	draft := auth.NewDraft()
	key, err := keys.Enrol(ctx, token.Reveal(), auth.Enrolment{Worker: "rack-7", Hash: draft.Hash()})
	if err != nil {
		fmt.Println(err)
		return
	}
	// With the id that it is told it has a credential, which nobody else has seen.
	credential, err := draft.Key(key.ID)
	if err != nil {
		fmt.Println(err)
		return
	}
	caller, err := keys.Authenticate(ctx, credential.Reveal())
	fmt.Println(caller.Worker, caller.Pools, err)

	_, err = keys.Enrol(ctx, token.Reveal(), auth.Enrolment{Worker: "tower-1", Hash: auth.NewDraft().Hash()})
	fmt.Println(errors.Is(err, auth.ErrForbidden))
	// Output:
	// rack-7 [linux] <nil>
	// true
}
